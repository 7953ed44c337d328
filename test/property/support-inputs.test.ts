// Inputs derived from support rows: worked numbers, and no label may reach its own input. Seen to
// fail: a support row's own label counted, query rows counted, inputs computed before the rows are
// divided again, support rows that read all others in training before adaptation.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  SupportInputsSchema,
  supportInputNames,
} from '../../shared/models/kinds/support-inputs.js';
import { dividedTask } from '../../shared/tasks/task-copies.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import { randomStream } from '../../shared/base/random.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import {
  DistinctBags,
  localIdsByTable,
  roleSpanOf,
  rowBatchOf,
  type RowRole,
} from '../../worker/compute/models/row-batch.js';
import { withSupportInputs } from '../../shared/bundle/support-rows.js';
import { jobCaseOf, relativeDifference } from '../fixtures/compute/compute-inputs.js';
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
import { jobRunner } from '../reference/job-runner.js';

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
const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));

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

  test('of support rows that read those before them in some order', () => {
    const [clickRate, count, encoding] = withSupportInputs(settings, features, [task], {
      reads: 'earlier',
    })[0]!.numbers;
    // Counts tell the order.
    const order = [0, 1, 2].sort((one, other) => count![one]! - count![other]!);
    const sums = (rows: readonly number[]): [number, number] => [
      rows.reduce((sum, row) => sum + task.clicks[row]!, 0),
      rows.reduce((sum, row) => sum + task.impressions[row]!, 0),
    ];
    for (const [place, row] of [...order, 3].entries()) {
      const read = order.slice(0, place);
      const [c, n] = sums(read);
      const ids = task.categoryIds[0]!;
      const [cOfValue, nOfValue] = sums(read.filter((other) => ids[other] === ids[row]));
      const rate = (c + 2) / (n + 10);
      expect(clickRate![row]).toBeCloseTo(logOdds(rate) - logOdds(0.2), 6);
      expect(count![row]).toBeCloseTo(Math.log(1 + n) / 4, 6);
      const atValue = (cOfValue + 10 * rate) / (nOfValue + 10);
      expect(encoding![row]).toBeCloseTo(logOdds(atValue) - logOdds(rate), 6);
    }
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
  const { run } = jobRunner();
  const model = { embeddingWidth: 3, hiddenWidths: [4], supportInputs: inputs };
  const weights = tasks.map((_, index) => 0.02 * (index + 1));

  test('the global gradient is that of the tasks with their inputs', async () => {
    const method = methodOf({ kind: 'global' });
    const current = jobCaseOf(store, model, 5, method);
    const { spec, meta } = current;
    expect(spec.numberFeatures.slice(-4)).toEqual(supportInputNames(inputs));
    const found = await run(current, {
      kind: 'gradient',
      method,
      taskWeights: weights,
    });
    const seen = withSupportInputs(inputs, features, tasks, { reads: 'earlier' });
    const dense = denseValuesOf(meta);
    const gradients = seen.map((task) => taskLoss(spec, meta, dense, task, allOf(task)).gradient);
    expectGradient(current, found, weightedSum(gradients, weights), seen);
  });

  test('a cold term reads the inputs of the global loss, and adaptation those of a method without one', async () => {
    const share = 0.25;
    const gradientOf = (coldShare: number, taskWeights: number[], coldTaskWeights: number[]) => {
      const method = methodOf({ kind: 'fomaml', innerSteps: 2, coldShare });
      const current = jobCaseOf(store, model, 5, method);
      return run(current, {
        ...{ kind: 'gradient', method, taskWeights },
        ...(coldShare > 0 && { coldTaskWeights }),
      });
    };
    const none = weights.map(() => 0);
    const plain = await gradientOf(0, weights, none);
    const warm = await gradientOf(share, weights, none);
    for (const [name, values] of plain.tensors) {
      const expected = values.map((value) => value * (1 - share));
      expect(relativeDifference(warm.tensors.get(name)!, expected), name).toBeLessThan(1e-5);
    }
    const cold = await gradientOf(share, none, weights);
    const method = methodOf({ kind: 'fomaml', innerSteps: 2, coldShare: share });
    const current = jobCaseOf(store, model, 5, method);
    const { spec, meta } = current;
    const seen = withSupportInputs(inputs, features, tasks, { reads: 'earlier' });
    const dense = denseValuesOf(meta);
    const gradients = seen.map((task) => taskLoss(spec, meta, dense, task, allOf(task)).gradient);
    const coldWeights = weights.map((weight) => share * weight);
    expectGradient(current, cold, weightedSum(gradients, coldWeights), seen);
  });

  // For a linear model and squared errors the gradient is linear in the weights, so two gradients give the least loss that
  // any weight of the input reaches where the level of every task is fitted.
  test.each([
    ['clickRate', 'at random', (labels: Float32Array) => labels],
    ['clickRate', 'by label', (labels: Float32Array) => labels.sort().reverse()],
    ['count', 'by label', (labels: Float32Array) => labels.sort().reverse()],
  ])(
    'a model that recognizes the task reads no label in %s of rows %s',
    async (input, order, ordered) => {
      const stream = randomStream(8, 'recognized tasks');
      const rowCount = 20;
      const recognized = tasks.slice(0, 1).flatMap((like) =>
        Array.from({ length: 50 }, (_, task): TaskRows => ({
          ...{ ...like, taskIndex: task, rowCount, supportRowCount: 19, loss: 'squared' },
          categoryIds: [new Int32Array(rowCount).fill(task + 1)],
          ...{ bagIds: [], numbers: [], impressions: new Float32Array(rowCount).fill(1) },
          ...{ times: new Float64Array(rowCount), logRows: new Float64Array(rowCount) },
          clicks: Float32Array.of(
            ...ordered(Float32Array.from({ length: rowCount - 1 }, () => stream.normal())),
            stream.normal(),
          ),
        })),
      );
      const indices = recognized.map(({ taskIndex }) => taskIndex);
      const whole = tinyTaskStore({ categoryRowCounts: [51], numberCount: 0, losses: ['squared'] });
      const ofTasks: TaskStore = {
        ...whole,
        digest: `recognized, ${order}`,
        readTasks: (asked) => Promise.resolve(asked.map((index) => recognized[index]!)),
      };
      const method = methodOf({ kind: 'global' });
      const logistic = { kind: 'logistic', hiddenWidths: [], supportInputs: { [input]: true } };
      const current = jobCaseOf(ofTasks, logistic, 5, method);
      const { spec, meta } = current;
      expect([spec.tableRowWidth, spec.numberFeatures]).toEqual([1, [`support.${input}`]]);
      const levels = meta.tables.get('category0')!.values;
      for (const { values } of meta.dense.values()) values.fill(0);
      const gradientAt = async (weight: number) => {
        meta.dense.get('numbers.linear')!.values.fill(weight);
        const work = { kind: 'gradient', method, taskWeights: indices.map(() => 1) } as const;
        const { tensors } = await run(current, work, indices);
        return { level: tensors.get('rows')!, weight: tensors.get('numbers.linear')![0]! };
      };
      const fittedAt = async (weight: number): Promise<number> => {
        levels.fill(0);
        const { level } = await gradientAt(weight);
        for (const [task, error] of level.entries()) levels[task + 1] = -error;
        return (await gradientAt(weight)).weight;
      };
      const [atZero, atOne] = [await fittedAt(0), await fittedAt(1)];
      const left = recognized.reduce((sum, { clicks }) => {
        const mean = clicks.reduce((a, b) => a + b, 0) / rowCount;
        return sum + clicks.reduce((a, b) => a + (b - mean) ** 2, 0) / rowCount;
      }, 0);
      const readShare = atZero ** 2 / ((atOne - atZero) * left);
      expect(readShare).toBeLessThan(0.1);
    },
  );

  test('a prediction uses only the support rows of its division', async () => {
    const method = methodOf({ kind: 'fomaml' });
    const current = jobCaseOf(store, model, 5, method);
    const { spec, meta } = current;
    const division = { by: 'shots', supportRowsMax: 2 } as const;
    const found = await run(current, {
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
