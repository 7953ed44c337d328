/** The file of `--warm-up`: requests that every bundle answers before it is served. */

import { QianmoError } from '../../../shared/base/errors.js';
import { textOfNamedFile } from '../../../shared/base/named-file.js';
import type { RecordedRequest } from '../../../worker/serving/recorded-requests.js';
import { requestOfLine } from '../../../worker/serving/server/forms/warm-up.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';

const BYTE_COUNT_MAX = 16 * 2 ** 20;
const REQUESTS_MAX = 1_000;

/** @throws QianmoError of kind `usage` for a line that is no request, `environment` for a file that cannot be read. */
export async function warmUpRequestsIn(file: string | undefined): Promise<RecordedRequest[]> {
  if (file === undefined) return [];
  const named = { file, variable: '--warm-up', what: 'the file of requests to warm up with' };
  const text = await textOfNamedFile({ ...named, byteCountMax: BYTE_COUNT_MAX });
  const lines = text.split('\n').map((line, index) => ({ line, number: index + 1 }));
  const requests = lines.filter(({ line }) => line.trim() !== '');
  if (requests.length > REQUESTS_MAX)
    throw wrongFile(file, `at most ${REQUESTS_MAX} requests`, `${requests.length} lines`);
  return requests.map(({ line, number }) => {
    try {
      return requestOfLine(line);
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw error;
      const { what, found } = error.refusal;
      throw wrongFile(file, 'a body of /v1/rank in JSON', `line ${number}: ${found ?? what}`);
    }
  });
}

function wrongFile(where: string, expected: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the file of --warm-up is not one of requests, one on each line',
    ...{ where, expected, found },
    cure: 'write a body of /v1/rank in JSON on each line',
  });
}
