/** The state of runs whose logs say for long nothing but that they live, in lists and in a status. */

import { appendFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ListedRun } from '../../../coordinator/record/listed-view.js';
import { recordPlaceOf, type RecordPlace } from '../../../coordinator/record/record-place.js';
import { runStateOf, type Observer } from '../../../coordinator/record/run-state.js';
import { readRunStatus } from '../../../coordinator/record/run-status.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const process = { host: 'h', pid: 42, boot: 'b', pidNamespace: 'n', startTicks: '7' };
const alive: RunEvent = { kind: 'call-alive', call: 'train', process, sinceMs: 1_000 };
const started: RunEvent = { kind: 'run-started', runId: 'r', outerStep: 0, outerSteps: 100 };
const step = (outerStep: number): RunEvent => ({
  ...{ kind: 'outer-step', outerStep, outerSteps: 100, queryLoss: 0.5, supportLoss: 0.6 },
  ...{ gradientNorm: 1, tasksPerSecond: 200 },
});
const awaited: RunEvent = { kind: 'workers-missing', openJobCount: 8 };
/** Ten seconds lie between them. */
const ALIVE_MS = 10_000;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let place: RecordPlace;
let nowMs: number;
beforeEach(async () => {
  folder = await temporaryFolder();
  place = recordPlaceOf(folder.path, { region: 'r', forcePathStyle: true });
  nowMs = 1_000;
});
afterEach(() => folder.remove());

async function tell(...events: readonly RunEvent[]): Promise<void> {
  const path = join(folder.path, 'events/events-000001.ndjson');
  await mkdir(dirname(path), { recursive: true });
  const lines = events.map((event) => `${encodeEvent({ ...event, runId: 'r', epochMs: nowMs })}\n`);
  await appendFile(path, lines.join(''));
}

async function live(count: number): Promise<void> {
  for (let each = 0; each < count; each += 1) {
    nowMs += ALIVE_MS;
    await tell(alive);
  }
}

const observer = (): Observer => ({ nowMs, livenessOf: () => 'runs' });
const statusOf = (...byteCounts: number[]) => readRunStatus(place, byteCounts, observer());

describe.each<[string, RunEvent]>([
  ['paused', { kind: 'run-paused' }],
  ['waiting for workers', awaited],
])('a run that is %s', (state, event) => {
  test('stays so in a list that is open, and in a new one', async () => {
    await tell(alive, started, step(1), event);
    const open = await ListedRun.of(place);
    for (let minutes = 0; minutes < 30; minutes += 10) {
      await live(60);
      await open.goOn();
      for (const listed of [open, await ListedRun.of(place)]) {
        expect(runStateOf(listed.view, observer())).toBe(state);
        expect(listed.view.training?.outerStep).toBe(1);
      }
    }
  });

  test('stays so in a status whose end of the log says nothing of it', async () => {
    await tell(alive, started, step(1), event);
    await live(60);
    expect(await statusOf(8_192, 10 ** 6)).toMatchObject({ state, training: { outerStep: 1 } });
  });
});

test('a run with long outer steps runs', async () => {
  await tell(alive, started);
  const open = await ListedRun.of(place);
  for (let outerStep = 1; outerStep < 4; outerStep += 1) {
    await live(60);
    await tell(step(outerStep));
    await open.goOn();
  }
  await live(60);
  await open.goOn();
  for (const { view } of [open, await ListedRun.of(place)])
    expect(runStateOf(view, observer())).toBe('running');
  expect((await statusOf(8_192, 10 ** 6))?.state).toBe('running');
});

test('a run that was removed and begun anew is the new one', async () => {
  await tell(alive, started, step(7));
  await live(60);
  const open = await ListedRun.of(place);
  await folder.remove();
  await tell({ ...alive, sinceMs: nowMs }, started, step(1));
  await open.goOn();
  expect(open.view.training?.outerStep).toBe(1);
});
