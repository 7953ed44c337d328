// Which tasks are neighbours: a worked example, and every choice against its definition. Seen to
// fail: ties by the order of counting, the share of the task's own ids in place of Jaccard, unknown
// ids that count, query rows that count, skipped ids that still count in the union, a task made of
// the same rows as its neighbour, validation tasks as neighbours, more support rows than are read,
// a bound off by one, rows of a neighbour that are later than the time of a division.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  jobNeighboursOf,
  KEPT_INDICES_MAX,
  knownIdsOf,
  neighbourIndexOf,
} from '../../coordinator/plan/job-neighbours.js';
import { neighbourRowsOf } from '../../shared/tasks/rows/neighbour-rows.js';
import { dividedTask } from '../../shared/tasks/rows/row-division.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { neighboursByDefinition } from '../fixtures/neighbours-by-definition.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';

const plain = tinyTaskStore({ taskCount: 8, categoryRowCounts: [50, 7] });

/** The store with these ids of category0 in support rows, and `queryIds` in one query row each. */
function storeWith(
  idsByTask: readonly (readonly number[])[],
  queryIds: readonly number[] = [],
): TaskStore {
  const rows = idsByTask.map((ids, taskIndex): TaskRows => {
    const all = [...ids, ...queryIds];
    const ofRows = (value: (row: number) => number): Float32Array =>
      Float32Array.from(all, (_, row) => value(row));
    return {
      ...{ taskIndex, rowCount: all.length, supportRowCount: ids.length },
      categoryIds: [Int32Array.from(all), new Int32Array(all.length)],
      ...{ bagIds: [], numbers: [ofRows(() => 0)], oracle: null },
      ...{ clicks: ofRows(() => 1), impressions: ofRows(() => 1) },
      times: new Float64Array(all.length),
      logRows: Float64Array.from(all, (_, row) => 1000 * taskIndex + row),
    };
  });
  return {
    ...plain,
    tasks: plain.tasks.slice(0, rows.length),
    readTasks: (indices) => Promise.resolve(indices.map((index) => rows[index]!)),
  };
}

async function chosenIn(
  store: TaskStore,
  count: number,
  feature = 'category0',
): Promise<number[][]> {
  const method = methodOf({ kind: 'paml-gate', neighbours: { feature, count } });
  const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));
  const { named } = await jobNeighboursOf(store, method, tasks);
  return named.neighbours!;
}

test('the most similar come first, ties are ordered by task index, and only training tasks count', async () => {
  // Tasks 3 and 4 are held out. For task 0: task 1 shares 1 of 3, task 2 1 of 2, task 5 2 of 4.
  const store = storeWith([[1, 2], [2, 3], [1], [1, 2], [0], [1, 2, 8, 9], [0, 5]]);
  expect(await chosenIn(store, 2)).toEqual([
    [2, 5],
    [0, 5],
    [0, 5],
    [0, 2],
    // Unknown ids are not shared.
    [],
    [0, 2],
    [],
  ]);
  expect((await chosenIn(store, 5))[0]).toEqual([2, 5, 1]);
});

test('the rows of each neighbour of a job are sent once', async () => {
  const store = storeWith([[1, 2], [2, 3], [1], [1, 2]], [4, 4]);
  const method = methodOf({ kind: 'paml-gate', neighbours: { feature: 'category0' } });
  const { named, rows } = await jobNeighboursOf(store, method, await store.readTasks([0, 3]));
  expect(named).toEqual({
    neighbours: [
      [2, 1],
      [0, 2, 1],
    ],
  });
  expect(rows.map(({ taskIndex }) => taskIndex)).toEqual([2, 1, 0]);
  expect(rows.map(({ rowCount }) => rowCount)).toEqual([1, 2, 2]);
});

test('a division by time hides later rows, including those of the neighbour', async () => {
  const store = storeWith([[1, 2], [2, 3], [1], [1, 2]]);
  const timed: TaskStore = {
    ...store,
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) => ({
        ...task,
        times: Float64Array.from(task.times, (_, row) => row),
      })),
  };
  const method = methodOf({ kind: 'paml-gate', neighbours: { feature: 'category0' } });
  const division = { by: 'time', fromTime: 1, beforeTime: 2 } as const;
  const tasks = (await timed.readTasks([3])).map((task) => dividedTask(task, division));
  const { named, rows } = await jobNeighboursOf(timed, method, tasks, division);
  expect(named).toEqual({ neighbours: [[0, 2]] });
  expect(rows.map(({ rowCount }) => rowCount)).toEqual([1, 1]);
});

test('a replay of many periods keeps the indices of a few', async () => {
  const store = storeWith([[1, 2], [2, 3], [1], [1, 2]]);
  let readCount = 0;
  const counted: TaskStore = {
    ...store,
    readTasks: (indices) => {
      readCount += 1;
      return store.readTasks(indices);
    },
  };
  const method = methodOf({ kind: 'paml-gate', neighbours: { feature: 'category0' } });
  const tasks = await store.readTasks([3]);
  const readsOf = async (beforeTime: number): Promise<number> => {
    const before = readCount;
    await jobNeighboursOf(counted, method, tasks, { by: 'time', fromTime: 0, beforeTime });
    return readCount - before;
  };
  const building = await readsOf(1);
  const kept = await readsOf(1);
  expect(kept).toBeLessThan(building);
  for (let period = 2; period <= KEPT_INDICES_MAX; period += 1)
    expect(await readsOf(period)).toBe(building);
  // It was used again, so the first is not the least recently used.
  expect(await readsOf(1)).toBe(kept);
  expect(await readsOf(KEPT_INDICES_MAX + 1)).toBe(building);
  expect(await readsOf(1)).toBe(kept);
  expect(await readsOf(2)).toBe(building);
});

test('a feature without ids is refused', () => {
  for (const name of ['number0', 'category9'])
    expect(() => knownIdsOf(plain.manifest.features, name)).toThrow(name);
});

test('every choice matches the definition', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        seed: fc.nat(10_000),
        rowCount: fc.integer({ min: 2, max: 40 }),
        count: fc.integer({ min: 1, max: 5 }),
        idTasksMax: fc.constantFrom(1, 2, 3, 100),
        supportRowCountMax: fc.constantFrom(3, 12, 90),
        kind: fc.constantFrom('category', 'bag'),
        /** Rows that a task and the next one have in common. */
        twins: fc.subarray([0, 1, 5, 7, 10]),
      }),
      async ({ seed, rowCount, count, idTasksMax, supportRowCountMax, kind, twins }) => {
        const tiny = tinyTaskStore({
          ...{ seed, taskCount: 14, supportRowCountMax },
          ...{ categoryRowCounts: [5, rowCount], bags: [{ rowCount, lengthMax: 2 }] },
        });
        const store: TaskStore = {
          ...tiny,
          readTasks: async (indices) =>
            (await tiny.readTasks(indices)).map((task) => ({
              ...task,
              logRows: task.logRows.map((row) =>
                twins.includes(task.taskIndex) ? row + 1000 : row,
              ),
            })),
        };
        const feature = kind === 'bag' ? 'bag0' : 'category1';
        const all = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));
        const training = all.filter(({ taskIndex }) => store.tasks[taskIndex]?.split === 'train');
        const index = await neighbourIndexOf(
          training.map((task) => neighbourRowsOf(task)),
          knownIdsOf(store.manifest.features, feature),
          idTasksMax,
        );
        for (const task of all) {
          const idsOfRow = ({ bagIds, categoryIds }: TaskRows, row: number): number[] =>
            kind === 'bag'
              ? [...bagIds[0]!.subarray(2 * row, 2 * row + 2)]
              : [categoryIds[1]![row]!];
          const expected = await neighboursByDefinition(
            { store, idsOfRow, count, idTasksMax },
            task,
          );
          expect(index.neighboursOf(task, count)).toEqual(
            expected.map(({ taskIndex }) => taskIndex),
          );
        }
      },
    ),
    { numRuns: 60 },
  );
});
