/** The state of runs whose logs say for long nothing but that they live, in lists and in a status. */

import { appendFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { RunRecord } from '../../../coordinator/record/run-record.js';
import { readRunStatus } from '../../../coordinator/record/run-status.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

type Observer = Parameters<typeof readRunStatus>[1];

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

const folder = openedForEach(temporaryFolder);
let record: RunRecord;
let nowMs: number;
beforeEach(() => {
  record = new RunRecord(folder.path, { region: 'r', forcePathStyle: true });
  nowMs = 1_000;
});

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

test('a run that is waiting for workers stays so while the end of its log says nothing of it', async () => {
  await tell(alive, started, step(1), awaited);
  for (let minutes = 0; minutes < 30; minutes += 10) {
    await live(60);
    const status = await readRunStatus(record, observer());
    expect(status).toMatchObject({ state: 'waiting for workers', training: { outerStep: 1 } });
  }
});
