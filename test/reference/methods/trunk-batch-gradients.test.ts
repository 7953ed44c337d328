// A batch of trunk rows has no support rows. Whatever adapts has nothing to adapt to, so every method learns from
// such a batch what the global method learns from the same rows.
import { expect, test } from 'vitest';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import {
  jobCaseOf,
  relativeDifference,
  type NamedOutput,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { rich } from '../gradient-expectations.js';
import { jobRunner } from '../job-runner.js';
import { model } from '../method-jobs.js';

const { run } = jobRunner();

/** The rows of each task as query rows. */
function batchStore(): TaskStore {
  const store = tinyTaskStore({ ...rich, taskCount: 2 });
  return {
    ...store,
    tasks: store.tasks.map((task) => ({
      ...task,
      ...{ split: 'trunk', supportRowCount: 0 },
      queryRowCount: task.supportRowCount + task.queryRowCount,
    })),
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) => ({ ...task, supportRowCount: 0 })),
  };
}

function gradientBy(settings: Parameters<typeof methodOf>[0]): Promise<NamedOutput> {
  const method = methodOf(settings);
  const jobCase = jobCaseOf(batchStore(), model, 5, method);
  // The variables of a method come last, and move the draws for the tables behind them.
  const { meta } = jobCaseOf(batchStore(), model);
  for (const [name, { values }] of meta.dense) jobCase.meta.dense.get(name)?.values.set(values);
  for (const [name, { values }] of meta.tables) jobCase.meta.tables.get(name)?.values.set(values);
  return run(jobCase, { kind: 'gradient', method, taskWeights: [0.3, 0.7] });
}

// Posterior blocks moderate the logits of rows whose task is not known.
test('a batch of trunk rows teaches methods of points what it teaches the global one', async () => {
  const expected = await gradientBy({ kind: 'global' });
  const found = await gradientBy({ kind: 'fomaml' });
  for (const [name, tensor] of expected.tensors)
    expect(relativeDifference(found.tensors.get(name)!, tensor), name).toBeLessThan(1e-5);
  for (const values of found.tensors.values()) expect(values.every(Number.isFinite)).toBe(true);
});
