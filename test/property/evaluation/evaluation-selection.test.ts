/** Test adgroups affect no choice. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { formulaDispatcher } from '../../fixtures/queue/formula-dispatcher.js';
import { evaluateFormula } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

/** The store with the clicks and features of each test adgroup replaced. */
function withOtherTestRows(store: TaskStore, change: (row: number) => number): TaskStore {
  const changed = (task: TaskRows): TaskRows => ({
    ...task,
    clicks: task.clicks.map((_, row) => (change(task.taskIndex * 100 + row) > 0.5 ? 1 : 0)),
    numbers: task.numbers.map((values) =>
      values.map((_, row) => 6 * change(task.taskIndex * 100 + row + 50) - 3),
    ),
  });
  return {
    ...store,
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) =>
        store.tasks[task.taskIndex]?.split === 'test' ? changed(task) : task,
      ),
  };
}

it('other test rows change no chosen setting and no validation number', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 1_000_000 }),
      async (seed, phase) => {
        const store = tinyTaskStore({ seed, taskCount: 30 });
        const other = withOtherTestRows(store, (row) => Math.abs(Math.sin(row * phase)));
        const before = await evaluateFormula({ store });
        const after = await evaluateFormula({ store: other });
        expect(after.selection).toEqual(before.selection);
        expect(after.validation).toEqual(before.validation);
        expect(after.slices[0]?.arms).not.toEqual(before.slices[0]?.arms);
      },
    ),
    { numRuns: 8 },
  );
});

it('no job before the first test prediction contains a test task', async () => {
  const store = tinyTaskStore({ taskCount: 60 });
  const dispatcher = formulaDispatcher(store);
  await evaluateFormula({ store, dispatcher });
  const splits = dispatcher.tasksByWave.map((tasks) =>
    [...new Set(tasks.map((task) => store.tasks[task]?.split))].join(),
  );
  expect(splits).toEqual([
    'validation', // global, query rows, without adaptation and with every cell of the grid
    'validation', // global, support rows, for the shift
    'validation', // meta, query rows, without adaptation and with every cell of the grid
    'test', // global and finetuned
    'test', // meta, unadapted and adapted
    'test', // global, support rows
    // importance of features, one pass each
    'validation',
    'validation',
    'validation',
    'validation',
  ]);
});
