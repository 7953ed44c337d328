/** `qianmo plan` on a small store: measured with a worker, and again from what it printed. */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PlanResult } from '../../coordinator/runs/capacity/plan-run.js';
import { commandRoom, filesIn, type CommandRoom } from '../fixtures/commands/command-room.js';

let room: CommandRoom;
/** Draws tasks. */
let tasks: string;
/** Draws rows, as the best run of a search may. */
let rows: string;

beforeAll(async () => {
  room = await commandRoom();
  tasks = await room.config('tasks');
  rows = await room.config('rows', (config) => {
    config.training = { outerSteps: 2, rowsPerOuterStep: 96, taskWeight: 'examples' };
    config['method'] = { kind: 'global' };
    config['model'] = { embeddingWidth: 4, hiddenWidths: [8] };
  });
  await room.done(['prepare', tasks]);
});
afterAll(() => room.remove());

async function planned(words: readonly string[]): Promise<PlanResult> {
  return JSON.parse(await room.done(['plan', ...words, '--format', 'json'])) as PlanResult;
}

/** The rates of each number of workers must not depend on when it was asked. */
const ratesOf = ({ byWorkers }: PlanResult): readonly (readonly number[])[] =>
  byWorkers.map(({ workerCount, asConfigured, best }) => [
    ...[workerCount, asConfigured.perSecond, best.perSecond, best.jobSize],
  ]);

describe('qianmo plan', () => {
  it('measures a config that draws tasks, and predicts the same from what it printed', async () => {
    const before = await filesIn(room.folder);
    const plan = await planned([tasks, '--workers', '3']);
    expect(await filesIn(room.folder)).toEqual(before);
    expect(plan).toMatchObject({ run: 'tasks', workers: 3, drawn: 'tasks', jobSize: 3 });
    expect(plan.byWorkers.map(({ workerCount }) => workerCount).slice(0, 4)).toEqual([1, 2, 3, 4]);
    const [alone] = plan.byWorkers;
    // The model of one worker is fitted to what was measured, on other outer steps of equal adgroups.
    expect(alone!.asConfigured.stepMs / plan.measuredStepMs!).toBeGreaterThan(0.5);
    expect(alone!.asConfigured.stepMs / plan.measuredStepMs!).toBeLessThan(2);
    expect(alone!.asConfigured).toMatchObject({ orderCount: 4, jobSize: 3 });

    await room.write('kept.json', JSON.stringify(plan));
    const again = await planned([tasks, '--workers', '3', '--from', 'kept.json']);
    expect(again.measuredStepMs).toBeNull();
    expect(ratesOf(again)).toEqual(ratesOf(plan));
    const table = await room.done(['plan', tasks, '--workers', '3', '--from', 'kept.json']);
    expect(table).toMatch(/tasks\/s/);
    expect(table).toMatch(/With 3 workers choose training\.tasksPerJob: \d+ \([\d,]+ tasks\/s\)/);
  });

  it('measures a config that draws rows, and chooses the rows of a job', async () => {
    const plan = await planned([rows, '--workers', '4']);
    expect(plan).toMatchObject({ drawn: 'rows', jobSize: 96 });
    expect(plan.byWorkers[0]?.asConfigured).toMatchObject({ orderCount: 1 });
    await room.write('rows.json', JSON.stringify(plan));
    const chart = ['--chart', 'rows.svg'];
    const table = await room.done([
      'plan',
      rows,
      '--workers',
      '4',
      '--from',
      'rows.json',
      ...chart,
    ]);
    expect(table).toMatch(/rows\/s/);
    expect(table).toMatch(/With 4 workers choose training\.rowsPerJobMax: \d+ \([\d,]+ rows\/s\)/);
    expect(table).toMatch(/Rows are drawn here, and not tasks/);
    expect(await readFile(room.path('rows.svg'), 'utf8')).toContain('rows per second');
  });

  it('refuses costs of another form', async () => {
    const line = { perJob: 1, perTask: 1 };
    await room.write('earlier.json', JSON.stringify({ costs: { serialMs: 1, computeMs: line } }));
    await room.refused(['plan', tasks, '--from', 'earlier.json'], {
      exitCode: 2,
      what: /this file has no costs of an outer step/,
      where: /earlier\.json/,
      expected: /qianmo plan --format json/,
      found: /perRow|perTask/,
      cure: /--from/,
    });
  });
});
