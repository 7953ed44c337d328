// Which rows adapt and which are predicted. A worker must compute with exactly those.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dividedStore } from '../../coordinator/evaluation/task-jobs.js';
import { dividedTask, dividedTasks, type RowDivision } from '../../shared/tasks/task-copies.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import { jobCaseOf, runJob } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { openedOnce } from '../fixtures/opened.js';
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

test('a division by shots keeps the first support rows and every query row', () => {
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

test('an exchange changes query rows alone, in the feature and in encodings that read it', async () => {
  const encodes = { of: ['category1', 'category0'], input: 'rate' as const };
  const manifest = {
    features: store.manifest.features.map((feature) =>
      feature.kind === 'number' ? { ...feature, encodes } : feature,
    ),
  };
  const changed = await dividedTasks({ ...store, manifest }, [2, 8, 7], {
    ...{ by: 'exchange', feature: 'category0', tasks: [5, 2, 8] },
  });
  for (const [place, [index, from]] of [[2, 8] as const, [8, 5] as const].entries()) {
    const [own, other, found] = [tasks[index]!, tasks[from]!, changed[place]!];
    const otherCount = other.rowCount - other.supportRowCount;
    expect(otherCount).toBeGreaterThan(0);
    const exchanged = (mine: ArrayLike<number>, theirs: ArrayLike<number>): number[] =>
      Array.from({ length: own.rowCount }, (_, row) =>
        row < own.supportRowCount
          ? mine[row]!
          : theirs[other.supportRowCount + ((row - own.supportRowCount) % otherCount)]!,
      );
    const categoryIds = [
      Int32Array.from(exchanged(own.categoryIds[0]!, other.categoryIds[0]!)),
      own.categoryIds[1],
    ];
    const numbers = [Float32Array.from(exchanged(own.numbers[0]!, other.numbers[0]!))];
    expect(found).toEqual({ ...own, categoryIds, numbers });
  }
  expect(changed[2]).toEqual(tasks[7]);
});

describe('a predict job with a division', () => {
  const executor = openedOnce(() => createExecutor({ openStore: () => Promise.resolve(current) }));
  let current: TaskStore = store;

  const divisions: RowDivision[] = [
    { by: 'shots', supportRowsMax: 0 },
    { by: 'shots', supportRowsMax: 2 },
    { by: 'shots', supportRowsMax: 100 },
    { by: 'exchange', feature: 'category0', tasks: [...taskIndices] },
    { by: 'exchange', feature: 'bag0', tasks: taskIndices.slice(2, 6) },
  ];
  test.each(divisions)('is computed on the rows of the division: %j', async (division) => {
    const model = { embeddingWidth: 4, hiddenWidths: [5], personal: ['bias', 'output'] };
    const work = {
      kind: 'predict' as const,
      method: methodOf({ kind: 'fomaml', innerSteps: 2, innerRate: 0.3 }),
      adaptations: [{ innerRate: 0.3, innerSteps: 3 }],
    };
    for (const rows of ['query', 'support'] as const) {
      const divided = dividedStore(store, taskIndices, division).store;
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
