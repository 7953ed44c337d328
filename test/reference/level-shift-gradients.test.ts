// The level shift of a method: its outer gradient against central differences of an outer loss whose
// shifts are found by another implementation (the bracketed Newton search of the evaluation).
// Seen to fail: with the prior's pull left out of slope or variance and with two Newton steps instead of
// eight.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mapShift } from '../../coordinator/evaluation/level-shift.js';
import type { JobWork } from '../../shared/protocol.js';
import { LEVEL_SHIFT_LOG_DEVIATION } from '../../shared/methods/method.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import { CLICK_LABEL, type TaskLabel } from '../../shared/tasks/task-label.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/create-executor.js';
import { jobCaseOf, relativeDifference, runJob, type JobCase } from '../fixtures/compute-inputs.js';
import { methodOf } from '../fixtures/methods.js';
import { tinyTaskStore } from '../fixtures/tiny-task-store.js';
import {
  adapted,
  denseValuesOf,
  logitsAt,
  queryOf,
  supportOf,
  type RowSpan,
  type Values,
} from './referee.js';

const store = tinyTaskStore({
  taskCount: 5,
  supportRowCountMax: 6,
  queryRowCountMax: 7,
  counts: true,
  hasEmptySets: true,
  losses: ['binary', 'squared'],
});
const weights = [0.1, 0.4, 0.2, 0.05, 0.25];
const innerRate = 0.3;
const indices = store.tasks.map(({ taskIndex }) => taskIndex);

let executor: LocalExecutor;
let current: JobCase;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
});
afterAll(() => executor.close());

function select(method: MethodConfig): void {
  const model = { embeddingWidth: 2, hiddenWidths: [3], personal: ['bias', 'output'] };
  current = jobCaseOf({ ...store, digest: JSON.stringify(method) }, model, 5, method);
}

function shiftedQueryLogits(dense: Values, phi: Values, task: TaskRows): number[] {
  const { spec, meta } = current;
  const support = supportOf(task);
  const deviation = Math.exp(dense.get(LEVEL_SHIFT_LOG_DEVIATION)![0]!);
  const shift = mapShift(logitsAt(spec, meta, phi, task, support), countsOf(task, support), {
    mean: 0,
    deviation,
  });
  return logitsAt(spec, meta, phi, task, queryOf(task)).map((z) => z + shift);
}

function countsOf(
  task: TaskRows,
  { start, end }: RowSpan,
): {
  label: TaskLabel;
  clicks: Float32Array;
  impressions: Float32Array;
} {
  const { loss = 'binary' } = task;
  return {
    // As workers see values: standardised.
    label: loss === 'binary' ? CLICK_LABEL : { loss, segment: null, mean: 0, deviation: 1 },
    clicks: task.clicks.subarray(start, end),
    impressions: task.impressions.subarray(start, end),
  };
}

function queryLoss(dense: Values, phi: Values, task: TaskRows): number {
  const { clicks, impressions } = countsOf(task, queryOf(task));
  const total = impressions.reduce((sum, count) => sum + count, 0);
  if (total === 0) return 0;
  const sum = shiftedQueryLogits(dense, phi, task).reduce((loss, z, row) => {
    if (task.loss === 'squared')
      return loss + (impressions[row]! * (z - clicks[row]! / impressions[row]!) ** 2) / 2;
    const softplus = Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
    return loss + impressions[row]! * softplus - clicks[row]! * z;
  }, 0);
  return sum / total;
}

function outerLoss(dense: Values, tasks: readonly TaskRows[], innerSteps: number): number {
  const { spec, meta } = current;
  return tasks.reduce((sum, task, place) => {
    const phi = adapted(spec, meta, task, innerSteps, innerRate, dense);
    return sum + weights[place]! * queryLoss(dense, phi, task);
  }, 0);
}

/** By variable, central differences of `outerLoss`. */
function differencesOf(name: string, tasks: readonly TaskRows[], innerSteps: number): number[] {
  const dense = denseValuesOf(current.meta);
  const step = 1e-5;
  return Array.from(dense.get(name)!, (_, index) => {
    const at = (offset: number): number => {
      const moved = dense.get(name)!.map((value, i) => (i === index ? value + offset : value));
      return outerLoss(new Map(dense).set(name, moved), tasks, innerSteps);
    };
    return (at(step) - at(-step)) / (2 * step);
  });
}

const second = [1, 3].flatMap((innerSteps) =>
  ['kept', 'recomputed'].map((path): [number, string] => [innerSteps, path]),
);

describe('of second order', () => {
  test.each(second)('%i inner steps, %s: every gradient', async (innerSteps, path) => {
    const method = methodOf({ kind: 'maml', innerSteps, innerRate, path, levelShift: true });
    select(method);
    const tasks = await store.readTasks(indices);
    const work: JobWork = { kind: 'gradient', method, taskWeights: weights };
    const found = await runJob(executor, current, indices, work);
    expect(found.weightedQueryLoss).toBeCloseTo(
      outerLoss(denseValuesOf(current.meta), tasks, innerSteps),
      5,
    );
    for (const { name } of current.spec.variables)
      expect(
        relativeDifference(found.tensors.get(name)!, differencesOf(name, tasks, innerSteps)),
        name,
      ).toBeLessThan(2e-4);
  });
});

test('of first order: the gradient of the prior deviation', async () => {
  const method = methodOf({ kind: 'fomaml', innerSteps: 2, innerRate, levelShift: true });
  select(method);
  const tasks = await store.readTasks(indices);
  const work: JobWork = { kind: 'gradient', method, taskWeights: weights };
  const { tensors } = await runJob(executor, current, indices, work);
  const found = tensors.get(LEVEL_SHIFT_LOG_DEVIATION)!;
  const expected = differencesOf(LEVEL_SHIFT_LOG_DEVIATION, tasks, 2);
  expect(Math.abs(expected[0]!)).toBeGreaterThan(1e-3);
  expect(relativeDifference(found, expected)).toBeLessThan(2e-4);
});

test('predictions after steps are shifted, those before are not', async () => {
  const method = methodOf({ kind: 'fomaml', innerSteps: 2, innerRate, levelShift: true });
  select(method);
  const { spec, meta } = current;
  const tasks = await store.readTasks(indices);
  const { tensors } = await runJob(executor, current, indices, {
    kind: 'predict',
    method,
    adaptations: [
      { innerRate, innerSteps: 0 },
      { innerRate, innerSteps: 2 },
    ],
    rows: 'query',
  });
  const dense = denseValuesOf(meta);
  const before = tasks.flatMap((task) => logitsAt(spec, meta, dense, task, queryOf(task)));
  const after = tasks.flatMap((task) =>
    shiftedQueryLogits(dense, adapted(spec, meta, task, 2, innerRate), task),
  );
  const logits = tensors.get('logits')!;
  expect(relativeDifference(logits.subarray(0, before.length), before)).toBeLessThan(1e-5);
  expect(relativeDifference(logits.subarray(before.length), after)).toBeLessThan(1e-5);
});
