// Which rows adapt and which are predicted. A worker must compute with exactly those.

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dividedStore, storeOfPeriod } from '../../coordinator/evaluation/divided-store.js';
import {
  dividedTask,
  phaseMinibatches,
  type RowDivision,
} from '../../shared/tasks/rows/row-division.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../worker/compute/job/create-executor.js';
import { jobCaseOf, relativeDifference, runJob } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';

const BAG_LENGTH = 3;
const store = tinyTaskStore({
  taskCount: 12,
  counts: true,
  bags: [{ rowCount: 6, lengthMax: BAG_LENGTH }],
  hasEmptySets: true,
});
const taskIndices = store.tasks.map(({ taskIndex }) => taskIndex);
const tasks = await store.readTasks(taskIndices);
const someTask = fc.constantFrom(...tasks);

/** The task with times that are neither sorted nor distinct. */
const timedTask = fc
  .tuple(someTask, fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 24, maxLength: 24 }))
  .map(([task, times]): TaskRows => ({
    ...task,
    times: Float64Array.from(times.slice(0, task.rowCount)),
  }));

const oldRowOf = (task: TaskRows, logRow: number): number => task.logRows.indexOf(logRow);

/** Checks that every array of rows has the values of the rows that `logRows` names. */
function expectRowsOf(task: TaskRows, divided: TaskRows): void {
  const places = [...divided.logRows].map((logRow) => oldRowOf(task, logRow));
  const widthOf = (values: { length: number }): number => values.length / task.rowCount;
  const arraysOf = (value: unknown): (Float32Array | Float64Array | Int32Array)[] =>
    ArrayBuffer.isView(value)
      ? [value as Float32Array]
      : Array.isArray(value)
        ? value.flatMap(arraysOf)
        : [];
  const before = Object.values(task).flatMap(arraysOf);
  const after = Object.values(divided).flatMap(arraysOf);
  expect(after).toHaveLength(before.length);
  for (const [index, values] of before.entries()) {
    const width = widthOf(values);
    const expected = places.flatMap((place) => [
      ...values.subarray(place * width, (place + 1) * width),
    ]);
    expect([...(after[index] ?? [])]).toEqual(expected);
  }
}

describe('a division by shots', () => {
  test('keeps the first support rows and every query row', () => {
    fc.assert(
      fc.property(someTask, fc.integer({ min: 0, max: 15 }), (task, supportRowsMax) => {
        const divided = dividedTask(task, { by: 'shots', supportRowsMax });
        const supportRowCount = Math.min(supportRowsMax, task.supportRowCount);
        expect(divided.supportRowCount).toBe(supportRowCount);
        expect([...divided.logRows]).toEqual([
          ...task.logRows.subarray(0, supportRowCount),
          ...task.logRows.subarray(task.supportRowCount),
        ]);
        expectRowsOf(task, divided);
      }),
    );
  });
});

describe('a division by phases', () => {
  const division = fc.record({
    by: fc.constant('phases' as const),
    rowsPerPhase: fc.integer({ min: 1, max: 6 }),
    phase: fc.integer({ min: 0, max: 4 }),
  });

  test('supports with the minibatches used so far, each row in one of them', () => {
    fc.assert(
      fc.property(someTask, division, (task, given) => {
        const divided = dividedTask(task, given);
        const rowCount = Math.min(given.phase * given.rowsPerPhase, task.supportRowCount);
        expect(divided).toEqual(dividedTask(task, { by: 'shots', supportRowsMax: rowCount }));
        const minibatches = phaseMinibatches(task, given);
        expect(minibatches).toHaveLength(given.phase);
        expect(minibatches.flatMap((minibatch) => [...minibatch.logRows])).toEqual([
          ...task.logRows.subarray(0, rowCount),
        ]);
        for (const minibatch of minibatches) {
          expect(minibatch.rowCount).toBeLessThanOrEqual(given.rowsPerPhase);
          expect(minibatch.supportRowCount).toBe(minibatch.rowCount);
          expectRowsOf(task, minibatch);
        }
      }),
    );
  });
});

describe('a division by time', () => {
  test('adapts on every earlier row, predicts those of the period and sees no later one', () => {
    const bounds = fc.tuple(fc.integer({ min: -1, max: 5 }), fc.integer({ min: 1, max: 3 }));
    fc.assert(
      fc.property(timedTask, bounds, (task, [fromTime, length]) => {
        const beforeTime = fromTime + length;
        const divided = dividedTask(task, { by: 'time', fromTime, beforeTime });
        const support = [...divided.times.subarray(0, divided.supportRowCount)];
        const query = [...divided.times.subarray(divided.supportRowCount)];
        const times = [...task.times];
        expect(support).toEqual(times.filter((time) => time < fromTime).sort((a, b) => a - b));
        expect(query).toEqual(
          times.filter((time) => time >= fromTime && time < beforeTime).sort((a, b) => a - b),
        );
        const places = [...divided.logRows].map((logRow) => oldRowOf(task, logRow));
        for (const [row, place] of places.entries())
          if (row > 0 && divided.times[row] === divided.times[row - 1])
            expect(place).toBeGreaterThan(places[row - 1] ?? -1);
        expectRowsOf(task, divided);
      }),
    );
  });

  test('predicts each row exactly once over consecutive periods', () => {
    fc.assert(
      fc.property(timedTask, fc.integer({ min: 1, max: 3 }), (task, length) => {
        const predicted: number[] = [];
        for (let fromTime = 0; fromTime <= 4; fromTime += length) {
          const division = { by: 'time' as const, fromTime, beforeTime: fromTime + length };
          const divided = dividedTask(task, division);
          predicted.push(...divided.logRows.subarray(divided.supportRowCount));
        }
        expect(predicted.sort((a, b) => a - b)).toEqual([...task.logRows].sort((a, b) => a - b));
      }),
    );
  });
});

describe('a drawn division', () => {
  const drawn = fc.record({
    by: fc.constant('draw' as const),
    draw: fc.integer({ min: 1, max: 20 }),
    seed: fc.integer({ min: 0, max: 1000 }),
  });

  test('by hash has the same rows in other roles, as many of each', () => {
    const others = new Set<string>();
    fc.assert(
      fc.property(someTask, drawn, (task, given) => {
        const divided = dividedTask(task, { ...given, order: 'hash' });
        expect(divided.supportRowCount).toBe(task.supportRowCount);
        expect([...divided.logRows].sort()).toEqual([...task.logRows].sort());
        expectRowsOf(task, divided);
        others.add(`${task.taskIndex}: ${divided.logRows.join()}`);
      }),
    );
    expect(others.size).toBeGreaterThan(30);
  });

  test('by time predicts no row from a later one, and moves the cut by half of a side at most', () => {
    fc.assert(
      fc.property(timedTask, drawn, (task, given) => {
        const divided = dividedTask(task, { ...given, order: 'time' });
        expect([...divided.times]).toEqual([...task.times].sort((a, b) => a - b));
        const queryRowCount = task.rowCount - task.supportRowCount;
        expect(divided.supportRowCount).toBeGreaterThanOrEqual(task.supportRowCount / 2);
        expect(divided.rowCount - divided.supportRowCount).toBeGreaterThanOrEqual(
          queryRowCount / 2,
        );
        expectRowsOf(task, divided);
      }),
    );
  });
});

/** The store under a division; one by time reads all tasks, those without rows in the period as well. */
function storeUnder(division: RowDivision): TaskStore {
  if (division.by !== 'time') return dividedStore(store, taskIndices, division);
  const divided = tasks.map((task) => dividedTask(task, division));
  return storeOfPeriod(store, {
    ...{ name: 'all tasks', taskIndices },
    ...{ fromTime: division.fromTime, beforeTime: division.beforeTime },
    supportRowCounts: divided.map(({ supportRowCount }) => supportRowCount),
    queryRowCounts: divided.map(({ rowCount, supportRowCount }) => rowCount - supportRowCount),
  });
}

describe('a predict job with a division', () => {
  let executor: LocalExecutor;
  let current: TaskStore = store;
  beforeAll(async () => {
    executor = await createExecutor({ openStore: () => Promise.resolve(current) });
  });
  afterAll(() => executor.close());

  const divisions: RowDivision[] = [
    { by: 'shots', supportRowsMax: 0 },
    { by: 'shots', supportRowsMax: 2 },
    { by: 'shots', supportRowsMax: 100 },
    { by: 'time', fromTime: 5, beforeTime: 6 },
    { by: 'draw', draw: 1, seed: 3, order: 'hash' },
  ];
  test.each(divisions)('is computed on the rows of the division: %j', async (division) => {
    const model = { embeddingWidth: 4, hiddenWidths: [5], personal: ['bias', 'output'] };
    const work = {
      kind: 'predict' as const,
      method: methodOf({ kind: 'fomaml', innerSteps: 2, innerRate: 0.3 }),
      adaptations: [{ innerRate: 0.3, innerSteps: 3 }],
    };
    for (const rows of ['query', 'support'] as const) {
      const divided = storeUnder(division);
      const inJob = await runJob(executor, jobCaseOf(store, model), taskIndices, {
        ...work,
        rows,
        division,
      });
      // Another digest makes the executor open the store again.
      current = { ...divided, digest: `divided ${JSON.stringify(division)}` };
      const onDisk = await runJob(executor, jobCaseOf(current, model), taskIndices, {
        ...work,
        rows,
      });
      current = store;
      expect([...(inJob.tensors.get('logits') ?? [])]).toEqual([
        ...(onDisk.tensors.get('logits') ?? []),
      ]);
      const rowTotal = taskIndices.reduce((sum, index) => {
        const entry = divided.tasks[index];
        return sum + ((rows === 'query' ? entry?.queryRowCount : entry?.supportRowCount) ?? 0);
      }, 0);
      expect(inJob.tensors.get('logits')?.length).toBe(rowTotal);
    }
  });
});

describe('a predict job in phases', () => {
  const plain = tinyTaskStore({ taskCount: 8, counts: true, categoryRowCounts: [] });
  const indices = plain.tasks.map(({ taskIndex }) => taskIndex);
  const jobCase = jobCaseOf(plain, { kind: 'logistic', hiddenWidths: [], personal: ['bias'] });
  let executor: LocalExecutor;
  beforeAll(async () => {
    executor = await createExecutor({ openStore: () => Promise.resolve(plain) });
  });
  afterAll(() => executor.close());

  /** Gradient descent on the bias in float64, `innerSteps` on each minibatch of support rows. */
  function expectedLogits(task: TaskRows, phase: number, rowsPerPhase: number): number[] {
    const slope = jobCase.meta.dense.get('numbers.linear')?.values[0] ?? NaN;
    let bias = jobCase.meta.dense.get('bias')?.values[0] ?? NaN;
    const logitOf = (row: number): number => bias + slope * (task.numbers[0]?.[row] ?? NaN);
    for (let minibatch = 0; minibatch < phase; minibatch += 1) {
      const first = minibatch * rowsPerPhase;
      const end = Math.min(task.supportRowCount, first + rowsPerPhase);
      for (let step = 0; step < 3 && first < end; step += 1) {
        let gradient = 0;
        let impressions = 0;
        for (let row = first; row < end; row += 1) {
          const shown = task.impressions[row] ?? 0;
          gradient += shown / (1 + Math.exp(-logitOf(row))) - (task.clicks[row] ?? 0);
          impressions += shown;
        }
        bias -= (0.7 * gradient) / impressions;
      }
    }
    const queryRows = task.rowCount - task.supportRowCount;
    return Array.from({ length: queryRows }, (_, row) => logitOf(task.supportRowCount + row));
  }

  test.each([0, 1, 2, 3])(
    'takes its steps on one minibatch after another: phase %i',
    async (phase) => {
      const rowsPerPhase = 4;
      const { tensors } = await runJob(executor, jobCase, indices, {
        kind: 'predict',
        method: methodOf({ kind: 'fomaml', innerSteps: 1, innerRate: 0.7 }),
        adaptations: [
          { innerRate: 1, innerSteps: 0 },
          { innerRate: 0.7, innerSteps: 3 },
        ],
        rows: 'query',
        division: { by: 'phases', rowsPerPhase, phase },
      });
      const stored = await plain.readTasks(indices);
      const expected = [0, phase].flatMap((phases) =>
        stored.flatMap((task) => expectedLogits(task, phases, rowsPerPhase)),
      );
      expect(relativeDifference(tensors.get('logits') ?? [], expected)).toBeLessThan(1e-5);
    },
  );
});
