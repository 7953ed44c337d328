/** `qianmo plan` on a small store, measured in one process. */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { planRun } from '../../coordinator/runs/plan-run.js';
import { commandRoom, filesIn, type CommandRoom } from '../fixtures/commands/command-room.js';

type PlanResult = Awaited<ReturnType<typeof planRun>>;

let room: CommandRoom;
/** Draws tasks. */
let tasks: string;
/** Draws rows, as the best run of a search may. */
let rows: string;

beforeAll(async () => {
  room = await commandRoom();
  tasks = await room.config('tasks', (config) => {
    config.training['leavesPerOuterStepMin'] = 4;
    config.training['staleness'] = { outerSteps: 1, drainEveryOuterSteps: 2 };
    config.training['checkpointEveryOuterSteps'] = 2;
  });
  rows = await room.config('rows', (config) => {
    config.training = { outerSteps: 2, rowsPerOuterStep: 96, taskWeight: 'examples' };
    config['method'] = { kind: 'global' };
    config['model'] = { embeddingWidth: 4, hiddenWidths: [8] };
  });
  await room.done(['prepare', tasks]);
});
afterAll(() => room.remove());

it('predicts a config that draws tasks, and leaves no file', async () => {
  const before = await filesIn(room.folder);
  const printed = await room.done(['plan', tasks, '--workers', '3', '--format', 'json']);
  expect(await filesIn(room.folder)).toEqual(before);
  const plan = JSON.parse(printed) as PlanResult;
  expect(plan).toMatchObject({ run: 'tasks', workers: 3, drawn: 'tasks' });
  expect(plan.byWorkers.map(({ workerCount }) => workerCount).slice(0, 4)).toEqual([1, 2, 3, 4]);
  expect(plan.byWorkers[0]?.speedup).toBe(1);
  expect(plan.costs.msPerCost).toBeGreaterThan(0);
  expect(plan.costs.hasRowPacks).toBe(true);
  for (const { perSecond, stepMs, byteCount } of plan.byWorkers) {
    expect(perSecond).toBeCloseTo((plan.drawnCount * 1000) / stepMs, 6);
    expect(byteCount).toBeGreaterThan(0);
  }
});

it('predicts a config that draws rows, and draws the throughput', async () => {
  const table = await room.done(['plan', rows, '--workers', '4', '--chart', room.path('rows.svg')]);
  expect(table).toMatch(/rows\/s/);
  expect(table).toMatch(/rows: 4 workers make [\d,]+ rows\/s, [\d.]+ times one worker/);
  expect(await readFile(room.path('rows.svg'), 'utf8')).toContain('rows per second');
});
