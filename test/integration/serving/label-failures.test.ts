/**
 * The alerts of a label that cannot be read, and of a bundle that cannot be taken, look at counters, which go on while
 * that lasts, though the warnings come once.
 */

import { readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { serveRankings, type RankingService } from '../../../infra/library/index.js';
import { systemClock } from '../../../shared/base/clock.js';
import { moveLabel } from '../../../shared/bundle/bundle-labels.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { BundleKeeper } from '../../../worker/serving/server/bundle-keeper.js';
import { exportTwoBundles } from '../../fixtures/serving/served-export.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';
import { codeOf } from '../../../test/fixtures/told.js';

const POLLS = 5;
/** Every look at the label and its bundle, called once the one before has ended. */
const looks = vi.spyOn(BundleKeeper.prototype, 'poll');

let room: TemporaryFolder;
let digests: readonly [string, string];
let service: RankingService;
let told: StampedEvent[];
beforeEach(async () => {
  room = await temporaryFolder();
  digests = await exportTwoBundles(new FileObjectStore({ folder: room.path }));
  told = [];
  service = await serveRankings(
    { bundle: room.path, port: 0, metricsPort: 0, pollSeconds: 0.05 },
    { onEvent: (event) => told.push(event) },
  );
});
afterEach(async () => {
  await service.close();
  await room.remove();
});

async function counted(metric: string): Promise<number> {
  return (await service.metrics()).find(({ name }) => name === metric)?.value ?? NaN;
}

/** Resolves once so many looks more have begun. */
async function looksBegin(count: number): Promise<void> {
  const enough = looks.mock.calls.length + count;
  while (looks.mock.calls.length < enough) await systemClock.sleep(20);
}

async function expectAtRest(metric: string): Promise<void> {
  // The look under way may have met the fault.
  await looksBegin(1);
  const last = await counted(metric);
  await looksBegin(POLLS);
  expect(await counted(metric)).toBe(last);
}

test('every look at a label that fails is counted, and told once', async () => {
  const metric = 'qianmo_label_failures_total';
  expect(await counted(metric)).toBe(0);
  const label = join(room.path, 'labels/latest.json');
  const whole = await readFile(label);
  await writeFile(label, 'half of a');
  while (!((await counted(metric)) >= POLLS)) await systemClock.sleep(20);
  expect(told.filter((event) => codeOf(event) === 'label-unread')).toHaveLength(1);
  await writeFile(label, whole);
  await expectAtRest(metric);
});

test('every look at a bundle that cannot be read is counted, and told once', async () => {
  const metric = 'qianmo_bundle_refusals_total';
  expect(await counted(metric)).toBe(0);
  const store = new FileObjectStore({ folder: room.path });
  const manifest = (await store.list('')).find((key) => key.includes(digests[1]))!;
  const path = join(room.path, manifest);
  await rename(path, `${path}.kept`);
  // A link that leads to itself.
  await symlink(path, path);
  await moveLabel(store, 'latest', digests[1]);
  while (!((await counted(metric)) >= POLLS)) await systemClock.sleep(20);
  expect(told.filter(({ kind }) => kind === 'bundle-refused')).toHaveLength(1);
  await rename(`${path}.kept`, path);
  while (service.bundle !== digests[1]) await systemClock.sleep(20);
  await expectAtRest(metric);
});
