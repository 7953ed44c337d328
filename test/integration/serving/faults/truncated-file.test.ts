/**
 * A mapped file that is truncated where it lies: the system ends the process that reads it, no answer has a wrong score,
 * and the parent's new process serves once the file is back.
 */

import { copyFile, rename, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { scoringAddon } from '../../../../infra/bootstrap/native-addons.mjs';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { serveCommand } from '../../../fixtures/serving/served-command.js';
import {
  posted,
  selfCheckCandidates,
  twoBundles,
  type TwoBundles,
} from '../../../fixtures/serving/served-export.js';
import { temporaryFolder } from '../../../fixtures/temporary-folder.js';
import { openedOnce } from '../../../fixtures/opened.js';

const room = openedOnce(temporaryFolder);
let bundles: TwoBundles;
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  bundles = await twoBundles(new FileObjectStore({ folder: room.path }));
});

/** Whether the request was answered, with the scores of the bundle; a connection that breaks is no answer. */
async function isAnswered(url: string): Promise<boolean> {
  const candidates = selfCheckCandidates(bundles.loaded[0]);
  const answer = await posted(`${url}/v1/score`, { candidates }, { connection: 'close' }).catch(
    () => null,
  );
  if (answer === null) return false;
  expect(answer.status).toBe(200);
  const { logits } = bundles.loaded[0].selfCheck;
  for (const [row, score] of (answer.body['scores'] as readonly number[]).entries())
    expect(Math.abs(score - logits[row]!)).toBeLessThan(1e-4);
  return true;
}

test('ends the process that reads it, which is started again and serves when the file is back', async () => {
  const options = ['--processes', '2', '--poll-seconds', '0.1'];
  const { command, url, stop } = await serveCommand(room.path, room.path, options);
  expect(await isAnswered(url)).toBe(true);
  const { arrays } = bundles.loaded[0].manifest;
  const { sha256 } = arrays.find(({ name }) => name === 'blocks')!.files[0]!;
  const path = join(room.path, 'blobs', sha256);
  await copyFile(path, `${path}.kept`);
  await truncate(path, 0);
  // Whoever reads the file ends: first one process, then the other.
  let brokenCount = 0;
  while (brokenCount < 2) if (!(await isAnswered(url))) brokenCount += 1;
  await command.saw(/ended with SIGBUS; it is started again/);
  await rename(`${path}.kept`, path);
  while (!(await isAnswered(url)));
  await stop();
});
