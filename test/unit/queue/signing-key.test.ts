/** Where a signing key comes from, and that it shows itself nowhere. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { formatFailure } from '../../../shared/base/errors.js';
import { signingKeyOf } from '../../../shared/queue/signed-job-queue.js';
import { failureOf } from '../../fixtures/failures.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const TEXT = 'canary-0123456789abcdef0123456789abcdef';

const folder = openedOnce(temporaryFolder);

async function fileWith(content: string): Promise<string> {
  const file = join(folder.path, 'key');
  await writeFile(file, content);
  return file;
}

describe('the signing key', () => {
  it('is the same from the environment and from a file that ends with a line feed', async () => {
    const given = await signingKeyOf({ QIANMO_SIGNING_KEY: TEXT });
    const file = await fileWith(`${TEXT}\n`);
    const read = await signingKeyOf({ QIANMO_SIGNING_KEY_FILE: file });
    expect(read?.export().toString()).toBe(TEXT);
    expect(given?.export().toString()).toBe(TEXT);
    expect(inspect(given) + JSON.stringify(given)).not.toContain('canary');
  });

  it.each([
    ['too short', 'canary'],
    ['empty', ' \n'],
    ['too large', 'canary'.repeat(1_000)],
  ])('is refused when its file is %s, without being shown', async (_, content) => {
    const file = await fileWith(content);
    const failure = await failureOf(signingKeyOf({ QIANMO_SIGNING_KEY_FILE: file }));
    expect(failure.report).toMatchObject({ kind: 'usage', where: file });
    expect(formatFailure(failure)).not.toContain('canary');
  });
});
