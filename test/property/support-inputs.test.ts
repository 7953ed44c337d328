// Inputs derived from support rows: worked numbers, and no label may reach its own input. Seen to
// fail: a support row's own label counted, query rows counted, inputs computed before the rows are
// divided again.

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  SupportInputsSchema,
  supportInputNames,
} from '../../shared/models/kinds/support-inputs.js';
import { dividedTask } from '../../shared/tasks/task-copies.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/job/create-executor.js';
import {
  DistinctBags,
  localIdsByTable,
  roleSpanOf,
  rowBatchOf,
  type RowRole,
} from '../../worker/compute/models/row-batch.js';
import { withSupportInputs } from '../../worker/compute/models/support-inputs.js';
import {
  jobCaseOf,
  relativeDifference,
  runJob,
  type JobCase,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { expectGradient } from '../reference/gradient-expectations.js';
import {
  allOf,
  denseValuesOf,
  logitsAt,
  queryOf,
  taskLoss,
  weightedSum,
} from '../reference/referee.js';

const store = tinyTaskStore({
  taskCount: 12,
  categoryRowCounts: [4, 3],
  counts: true,
  losses: ['binary', 'squared'],
  hasEmptySets: true,
});
const { features } = store.manifest;
const inputs = SupportInputsSchema.parse({
  clickRate: true,
  count: true,
  targetEncodings: ['category1', 'category0'],
  smoothing: 3,
});
const taskIndices = store.tasks.map(({ taskIndex }) => taskIndex);
const tasks = await store.readTasks(taskIndices);

/** By input, `[rowCount]` each. */
function inputsOf(task: TaskRows): number[][] {
  const [seen] = withSupportInputs(inputs, features, [task]);
  return seen!.numbers.slice(task.numbers.length).map((column) => [...column]);
}

function relabelled(task: TaskRows, row: number, clicks: number): TaskRows {
  const changed = Float32Array.from(task.clicks);
  changed[row] = clicks;
  return { ...task, clicks: changed };
}

const logOdds = (q: number): number => Math.log(q / (1 - q));

describe('worked numbers', () => {
  const task: TaskRows = {
    ...tasks[0]!,
    rowCount: 5,
    supportRowCount: 3,
    loss: 'binary',
    categoryIds: [Int32Array.of(1, 2, 1, 1, 3), Int32Array.of(0, 0, 1, 2, 0)],
    numbers: [],
    clicks: Float32Array.of(1, 2, 0, 7, 8),
    impressions: Float32Array.of(2, 5, 1, 9, 9),
  };
  const settings = { ...inputs, targetEncodings: ['category0'], smoothing: 10, priorRate: 0.2 };
  const columnsOf = (of: TaskRows): Float32Array[] => [
    ...withSupportInputs(settings, features, [of])[0]!.numbers,
  ];

  test('of clicks', () => {
    const [clickRate, count, encoding] = columnsOf(task);
    // By row: clicks and impressions of the other support rows, in total and with its value.
    const evidence: [number, number, number, number][] = [
      [2, 6, 0, 1],
      [1, 3, 0, 0],
      [3, 7, 1, 2],
      [3, 8, 1, 3],
      [3, 8, 0, 0],
    ];
    for (const [row, [c, n, cOfValue, nOfValue]] of evidence.entries()) {
      const rate = (c + 2) / (n + 10);
      expect(clickRate![row]).toBeCloseTo(logOdds(rate) - logOdds(0.2), 6);
      expect(count![row]).toBeCloseTo(Math.log(1 + n) / 4, 6);
      const atValue = (cOfValue + 10 * rate) / (nOfValue + 10);
      expect(encoding![row]).toBeCloseTo(logOdds(atValue) - logOdds(rate), 6);
    }
    expect(encoding![4]).toBe(0);
  });

  test('of values: means, shrunk towards the standardised 0', () => {
    const [mean, , encoding] = columnsOf({ ...task, loss: 'squared' });
    expect(mean![3]).toBeCloseTo(3 / 18, 6);
    expect(encoding![3]).toBeCloseTo((1 + 30 / 18) / 13 - 3 / 18, 6);
    expect(mean![0]).toBeCloseTo(2 / 16, 6);
  });

  test('without support rows all are 0', () => {
    for (const column of columnsOf({ ...task, supportRowCount: 0 }))
      expect([...column]).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('labels', () => {
  const taskAndRow = fc
    .constantFrom(...tasks)
    .chain((task) => fc.tuple(fc.constant(task), fc.nat({ max: task.rowCount - 1 })));

  test('of a query row change no input, those of a support row change every other and not its own', () => {
    let changedCount = 0;
    fc.assert(
      fc.property(taskAndRow, fc.double({ min: 0, max: 1, noNaN: true }), ([task, row], share) => {
        const clicks = Math.fround(share * task.impressions[row]!);
        const isTold = row < task.supportRowCount && clicks !== task.clicks[row];
        const [before, after] = [inputsOf(task), inputsOf(relabelled(task, row, clicks))];
        const [rateBefore, countBefore, ...encodingsBefore] = before;
        const [rateAfter, countAfter, ...encodingsAfter] = after;
        expect(countAfter).toEqual(countBefore);
        for (let other = 0; other < task.rowCount; other += 1) {
          if (isTold && other !== row && Math.abs(clicks - task.clicks[row]!) > 0.01) {
            expect(rateAfter![other]).not.toBe(rateBefore![other]);
            changedCount += 1;
          }
          if (isTold && other !== row) continue;
          expect(rateAfter![other]).toBe(rateBefore![other]);
          for (const [place, encoding] of encodingsBefore.entries())
            expect(encodingsAfter[place]![other]).toBe(encoding[other]);
        }
      }),
      { seed: 5, numRuns: 300 },
    );
    expect(changedCount).toBeGreaterThan(100);
  });
});

test.each<RowRole>(['support', 'query', 'all', 'flat', 'first'])(
  'rows have the same inputs in the role %s as in any other',
  (role) => {
    const seen = withSupportInputs(inputs, features, tasks);
    const spans = seen.map((task) => roleSpanOf(task, role));
    const expected = seen.flatMap((task, index) => {
      const { start, end } = spans[index]!;
      return Array.from({ length: end - start }, (_, row) =>
        task.numbers.map((column) => column[start + row]!),
      );
    });
    const rowCounts = spans.map(({ start, end }) => end - start);
    const extents =
      role === 'flat'
        ? { taskCount: 1, rowExtent: expected.length }
        : { taskCount: seen.length, rowExtent: Math.max(...rowCounts) };
    const ids = localIdsByTable(rowPackLayoutOf(seen));
    const { numbers, numberCount } = rowBatchOf({ tasks: seen, role }, ids, extents, {
      ...{ bags: new DistinctBags(), packExtent: 0 },
    });
    expect(numberCount).toBe(features.filter(({ kind }) => kind === 'number').length + 4);
    const placed = rowCounts.flatMap((count, index) => {
      const first =
        role === 'flat'
          ? rowCounts.slice(0, index).reduce((sum, other) => sum + other, 0)
          : index * extents.rowExtent;
      return Array.from({ length: count }, (_, row) => [
        ...numbers.subarray((first + row) * numberCount, (first + row + 1) * numberCount),
      ]);
    });
    expect(placed).toEqual(expected);
  },
);

describe('jobs', () => {
  let executor: LocalExecutor;
  let current: JobCase;
  beforeAll(async () => {
    executor = await createExecutor({ openStore: () => Promise.resolve(current.store) });
  });
  afterAll(() => executor.close());
  const model = { embeddingWidth: 3, hiddenWidths: [4], supportInputs: inputs };
  const weights = tasks.map((_, index) => 0.02 * (index + 1));

  test('the global gradient is that of the tasks with their inputs', async () => {
    const method = methodOf({ kind: 'global' });
    current = jobCaseOf(store, model, 5, method);
    const { spec, meta } = current;
    expect(spec.numberFeatures.slice(-4)).toEqual(supportInputNames(inputs));
    const found = await runJob(executor, current, taskIndices, {
      kind: 'gradient',
      method,
      taskWeights: weights,
    });
    const seen = withSupportInputs(inputs, features, tasks);
    const dense = denseValuesOf(meta);
    const gradients = seen.map((task) => taskLoss(spec, meta, dense, task, allOf(task)).gradient);
    expectGradient(current, found, weightedSum(gradients, weights), seen);
  });

  test('a prediction uses only the support rows of its division', async () => {
    const method = methodOf({ kind: 'fomaml' });
    current = jobCaseOf(store, model, 5, method);
    const { spec, meta } = current;
    const division = { by: 'shots', supportRowsMax: 2 } as const;
    const found = await runJob(executor, current, taskIndices, {
      kind: 'predict',
      method,
      division,
      rows: 'query',
      adaptations: [{ innerSteps: 0, innerRate: 0.1 }],
    });
    const divided = tasks.map((task) => dividedTask(task, division));
    const expected = withSupportInputs(inputs, features, divided).flatMap((task) =>
      logitsAt(spec, meta, denseValuesOf(meta), task, queryOf(task)),
    );
    expect(relativeDifference(found.tensors.get('logits')!, expected)).toBeLessThan(1e-5);
  });
});
