/** The log of decisions: what is appended is in its files, in order, and the folder stays within its bound. */

import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import type { Outcome } from '../../../shared/config/decision-record.js';
import {
  openDecisionLog,
  type DecisionLog,
} from '../../../worker/serving/exploration/decision-log.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

let folder: TemporaryFolder;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

const outcome = (slot: number): Outcome => ({
  ...{ kind: 'outcome', decision: 'd', slot, reward: 1, epochMs: 0 },
});
const LINE_BYTE_COUNT = Buffer.byteLength(`${JSON.stringify(outcome(100))}\n`);

function opened(nonce = '0'.repeat(16)): Promise<DecisionLog> {
  const path = join(folder.path, 'decisions');
  const bounds = {
    fileByteCountMax: 10 * LINE_BYTE_COUNT,
    folderByteCountMax: 40 * LINE_BYTE_COUNT,
  };
  return openDecisionLog({ folder: path, clock: systemClock, nonce, ...bounds });
}

async function loggedSlots(): Promise<number[]> {
  const path = join(folder.path, 'decisions');
  const texts = (await readdir(path)).sort().map((name) => readFile(join(path, name), 'utf8'));
  const lines = (await Promise.all(texts)).join('').trim().split('\n');
  return lines.map((line) => (JSON.parse(line) as Outcome).slot);
}

test('holds in order what was appended, and the newest when the folder is full', async () => {
  const log = await opened();
  const slots = Array.from({ length: 100 }, (_, index) => 100 + index);
  for (const slot of slots.slice(0, 25)) await log.append([outcome(slot)]);
  expect(await loggedSlots()).toEqual(slots.slice(0, 25));
  for (const slot of slots.slice(25)) await log.append([outcome(slot)]);
  const found = await loggedSlots();
  expect(found).toEqual(slots.slice(-found.length));
  expect(found.length).toBeGreaterThanOrEqual(30);
  expect(found.length).toBeLessThanOrEqual(40);
  await log.close();
});

test('says that a record is not logged, and goes on when it can', async () => {
  const log = await opened();
  await log.append([outcome(1)]);
  const path = join(folder.path, 'decisions');
  await rm(path, { recursive: true });
  await expect(log.append([outcome(2)])).rejects.toMatchObject({ kind: 'environment' });
  const again = await opened('c'.repeat(16));
  await log.append([outcome(3)]);
  expect(await loggedSlots()).toEqual([3]);
  await Promise.all([log.close(), again.close()]);
});
