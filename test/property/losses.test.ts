// Tasks of clicks and of values share jobs without affecting each other, and a weight is a number
// of repeated rows under either loss. Seen to fail: with every task of a batch squared once one is,
// and with a constant of c^2 / 2.

import fc from 'fast-check';
import { describe, test } from 'vitest';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { type CaseWork, jobCaseOf } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { expectSumOf, namedGradient } from '../fixtures/compute/named-gradients.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { jobRunner } from '../reference/job-runner.js';

const TASK_COUNT = 9;
const model = { embeddingWidth: 3, hiddenWidths: [5], personal: ['bias', 'output'] };
const mixed = tinyTaskStore({
  ...{ taskCount: TASK_COUNT, supportRowCountMax: 5, queryRowCountMax: 5 },
  losses: ['binary', 'squared', 'binary'],
});
const methods = [
  methodOf({ kind: 'posterior' }),
  methodOf({ kind: 'fomaml', innerSteps: 2, innerRate: 0.2, coldShare: 0.4 }),
  methodOf({ kind: 'global' }),
] as const;

const { run } = jobRunner();

/**
 * Gradient by variable and by `table/id`, and the losses, so that jobs with different packs can be
 * compared.
 */
async function outcomeOf(
  store: TaskStore,
  method: (typeof methods)[number],
  indices: readonly number[],
): Promise<Map<string, Float32Array>> {
  const current = jobCaseOf(store, model, 5, method);
  const weights = indices.map((index) => 0.1 + index / 10);
  const work: CaseWork = {
    kind: 'gradient',
    method,
    taskWeights: weights,
    coldTaskWeights: weights,
  };
  const found = await run(current, work, indices);
  const byName = namedGradient(found, current.spec, await store.readTasks(indices));
  return byName.set('losses', Float32Array.of(found.weightedQueryLoss, found.weightedSupportLoss));
}

describe.each(methods)('$kind', (method) => {
  test('a job of clicks and values is the sum of jobs of one task each', async () => {
    const sets = fc.uniqueArray(fc.nat(TASK_COUNT - 1), { minLength: 2, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(sets, async (indices) => {
        const parts: Map<string, Float32Array>[] = [];
        for (const index of indices) parts.push(await outcomeOf(mixed, method, [index]));
        expectSumOf(parts, await outcomeOf(mixed, method, indices));
      }),
      { numRuns: 2 },
    );
  });

  test.each(['binary', 'squared'] as const)('a weight repeats rows: %s', async (loss) => {
    const plain = tinyTaskStore({ taskCount: 3, losses: [loss] });
    const weights = (task: TaskRows): number[] =>
      Array.from({ length: task.rowCount }, (_, row) => 1 + ((task.taskIndex + row) % 3));
    const weighted = changed(plain, 'weighted', (task) => ({
      ...task,
      clicks: task.clicks.map((clicks, row) => clicks * weights(task)[row]!),
      impressions: task.impressions.map((count, row) => count * weights(task)[row]!),
    }));
    const repeated = changed(plain, 'repeated', (task) => withRepeatedRows(task, weights(task)));
    const expected = await outcomeOf(repeated, method, [0, 1, 2]);
    expectSumOf([expected], await outcomeOf(weighted, method, [0, 1, 2]));
  });
});

function changed(store: TaskStore, name: string, change: (task: TaskRows) => TaskRows): TaskStore {
  return {
    ...store,
    digest: `${store.digest} ${JSON.stringify(store.manifest.labels)} ${name}`,
    readTasks: async (indices) => (await store.readTasks(indices)).map(change),
  };
}

function withRepeatedRows(task: TaskRows, counts: readonly number[]): TaskRows {
  const places = counts.flatMap((count, row) => Array.from({ length: count }, () => row));
  const floats = (values: Float32Array): Float32Array =>
    Float32Array.from(places, (row) => values[row]!);
  return {
    ...task,
    rowCount: places.length,
    supportRowCount: places.filter((row) => row < task.supportRowCount).length,
    categoryIds: task.categoryIds.map((ids) => Int32Array.from(places, (row) => ids[row]!)),
    numbers: task.numbers.map(floats),
    clicks: floats(task.clicks),
    impressions: floats(task.impressions),
    times: Float64Array.from(places, (row) => task.times[row]!),
    logRows: Float64Array.from(places, (row) => task.logRows[row]!),
  };
}
