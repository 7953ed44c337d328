/** The list of runs: the training of a run whose log has grown long since, and runs in a bucket with many objects. */

import { appendFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RunCatalog } from '../../../coordinator/dashboard/run-catalog.js';
import { recordsInBucket } from '../../../coordinator/record/find-records.js';
import { systemClock } from '../../../shared/base/clock.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import { LOG_FOLDER, segmentNameOf } from '../../../shared/events/event-log.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { openedOnce } from '../../fixtures/opened.js';
import { RECORD_STARTED_MS, writeRecord } from '../../fixtures/written-record.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

/** Lines of an evaluation behind the training: about 1.1 MB. */
const PROGRESS_COUNT = 12_000;

const folder = openedOnce(temporaryFolder);

function progressLines(from: number): string {
  const lines = Array.from({ length: PROGRESS_COUNT }, (_, index) =>
    encodeEvent({
      ...{ kind: 'progress', stage: 'adgroups', done: from + index, total: 100_000 },
      ...{ runId: 'long', epochMs: RECORD_STARTED_MS + 60_000 + index },
    }),
  );
  return `${lines.join('\n')}\n`;
}

it('finds a training that lies before a megabyte of other events, and keeps it', async () => {
  const output = join(folder.path, 'long');
  await writeRecord(output, { run: 'long', outerSteps: 40 });
  const log = join(output, LOG_FOLDER, segmentNameOf(1));
  await appendFile(log, progressLines(0));
  let monotonicMs = 0;
  const clock = { ...systemClock, monotonicMs: () => (monotonicMs += 10_000) };
  const s3 = { region: 'us-east-1', forcePathStyle: true };
  const catalog = new RunCatalog({ roots: [folder.path], s3, clock });
  for (const from of [0, PROGRESS_COUNT]) {
    if (from > 0) await appendFile(log, progressLines(from));
    const { runs } = await catalog.runs();
    const [listed] = runs;
    expect(listed?.status.training).toMatchObject({
      outerStep: 40,
      outerSteps: 40,
    });
    expect(listed?.status.run).toBe('long');
    expect(listed?.status.stage?.done).toBe(from + PROGRESS_COUNT - 1);
  }
});

it('shows the run that took the place of another in its output, on its page and in the list', async () => {
  const output = join(folder.path, 'again');
  let monotonicMs = 0;
  const clock = { ...systemClock, monotonicMs: () => (monotonicMs += 10_000) };
  const s3 = { region: 'us-east-1', forcePathStyle: true };
  const catalog = new RunCatalog({ roots: [output], s3, clock });
  for (const outerSteps of [40, 7]) {
    await rm(output, { recursive: true, force: true });
    await writeRecord(output, { run: 'again', outerSteps });
    const { runs } = await catalog.runs();
    expect(runs[0]?.status.training).toMatchObject({ outerStep: outerSteps, outerSteps });
    const opened = await catalog.open('again');
    expect(opened?.history.course.points('queryLoss').at(-1)?.x).toBe(outerSteps);
    expect(opened?.status.training?.outerStep).toBe(outerSteps);
  }
});

it('looks at a bounded number of objects of a bucket, and says so', async () => {
  const store = new MemoryObjectStore();
  for (const key of ['a/events/events-000001.ndjson', 'a/z', 'b/c/events/events-000002.ndjson'])
    await store.put(key, new Uint8Array(1), { kind: 'always' });
  expect(await recordsInBucket(store, 4)).toEqual({ paths: ['a', 'b/c'], isCut: false });
  expect(await recordsInBucket(store, 2)).toEqual({ paths: ['a'], isCut: true });
});
