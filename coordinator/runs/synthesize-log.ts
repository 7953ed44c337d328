/** Synthesizes an advertising log whose true click probabilities are known. */

import { QianmoError } from '../../shared/base/errors.js';
import {
  LOG_FORMATS,
  type LogFormat,
  type SynthesisReport,
} from '../synthesize/synthesis-options.js';
import { synthesize } from '../synthesize/synthesize.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';

export async function synthesizeLog(
  request: RequestOf<'synthesize'>,
  { clock, sink, signal }: RunContext,
): Promise<SynthesisReport> {
  const { rows, setting, clickRate, seed, adgroups, users, out } = request;
  return synthesize({
    ...{ rows, setting, meanClickRate: clickRate, seed },
    ...(adgroups === undefined ? {} : { adgroupCount: adgroups }),
    ...(users === undefined ? {} : { userCount: users }),
    ...{ path: out, format: logFormatOf(out), clock, sink, signal },
  });
}

function logFormatOf(path: string): LogFormat {
  const format = LOG_FORMATS.find((name) => path.endsWith(`.${name}`));
  if (format !== undefined) return format;
  throw new QianmoError({
    kind: 'usage',
    what: 'the output file has no known file ending',
    where: path,
    expected: LOG_FORMATS.map((name) => `.${name}`).join(', '),
    cure: 'write for example --out runs/log.csv',
  });
}
