/**
 * Where configs named on a command line are looked for. Those on S3 are in
 * `experiments-s3.test.ts`.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { configReaderOf } from '../../../coordinator/runs/places.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

test('a path and file:// with it are the same file', async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => folder.remove());
  const path = join(folder.path, 'a run', 'run (1).yaml');
  await mkdir(join(folder.path, 'a run'));
  await writeFile(path, 'run: one\n');
  const read = configReaderOf({});
  expect(await read(path)).toBe('run: one\n');
  expect(await read(`file://${path}`)).toBe('run: one\n');
  await expect(read(folder.path)).rejects.toMatchObject({ code: 'EISDIR' });
});

test.each(['s3://', 's3://UPPER/run.yaml', 's3:///run.yaml'])(
  '%s is not an address',
  async (path) => {
    await expect(configReaderOf({})(path)).rejects.toMatchObject({ kind: 'usage' });
  },
);
