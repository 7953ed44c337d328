// The division of a job into micro-batches is complete, bounded, cheap, and decided by the job
// alone.

import fc from 'fast-check';
import { assert, expect, test } from 'vitest';
import {
  bagExtent,
  flatExtent,
  flatMicroBatchesOf,
  memberDensity,
  microBatchesOf,
  packExtent,
  rowExtent,
  CALL_OVERHEAD_ROWS,
  taskExtent,
  type MicroBatch,
  type TaskSize,
} from '../../shared/tasks/micro-batches.js';

const rowCount = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 1, max: 40 }),
  fc.integer({ min: 1, max: 600 }),
);
const size = fc.record({ supportRowCount: rowCount, queryRowCount: rowCount });
const rowsMax = fc.oneof(fc.constantFrom(1, 64, 500, 16_384), fc.integer({ min: 1, max: 5000 }));

const rowsOf = ({ taskCount, supportExtent, queryExtent }: MicroBatch): number =>
  taskCount * (supportExtent + queryExtent);
/** Tasks that are computed as they are, without padding. */
const areAlike = (tasks: readonly TaskSize[]): boolean =>
  tasks.length >= 4 &&
  tasks.every(
    (task) =>
      task.supportRowCount === tasks[0]!.supportRowCount &&
      task.queryRowCount === tasks[0]!.queryRowCount,
  );
const costOf = (batches: readonly MicroBatch[]): number =>
  batches.reduce((sum, batch) => sum + rowsOf(batch) + CALL_OVERHEAD_ROWS, 0);

test('every task is in one micro-batch, which contains its rows and respects the bound', () => {
  fc.assert(
    fc.property(fc.array(size, { maxLength: 60 }), rowsMax, (tasks, bound) => {
      const batches = microBatchesOf(tasks, bound);
      const places = batches.flatMap(({ taskPlaces }) => taskPlaces);
      expect([...places].sort((a, b) => a - b)).toEqual([...tasks.keys()]);
      for (const batch of batches) {
        const { taskPlaces, taskCount, supportExtent, queryExtent, flatExtent } = batch;
        expect(taskCount).toBeGreaterThanOrEqual(taskPlaces.length);
        expect(taskCount).toBeLessThanOrEqual(4 * taskPlaces.length);
        const own = taskPlaces.map((place) => tasks[place]!);
        const rowCount = own.reduce((sum, t) => sum + t.supportRowCount + t.queryRowCount, 0);
        expect(flatExtent).toBeGreaterThanOrEqual(rowCount);
        expect(4 * flatExtent).toBeLessThan(Math.max(1, 4 * rowCount + rowsOf(batch)));
        const padded = areAlike(tasks) ? (count: number): number => count : rowExtent;
        expect(supportExtent).toBe(Math.max(...own.map((t) => padded(t.supportRowCount))));
        expect(queryExtent).toBe(Math.max(...own.map((t) => padded(t.queryRowCount))));
        if (taskPlaces.length > 1) expect(rowsOf(batch)).toBeLessThanOrEqual(bound);
      }
    }),
  );
});

/** The least cost of all divisions of the sorted tasks, found by trying each. */
function leastCost(tasks: readonly TaskSize[], bound: number): number {
  const sorted = tasks
    .map((t) => [rowExtent(t.supportRowCount), rowExtent(t.queryRowCount)] as const)
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let least = Infinity;
  for (let cuts = 0; cuts < 1 << (sorted.length - 1); cuts += 1) {
    const groups: (typeof sorted)[] = [[]];
    for (const [index, task] of sorted.entries()) {
      if (index > 0 && ((cuts >> (index - 1)) & 1) === 1) groups.push([]);
      groups.at(-1)!.push(task);
    }
    const rows = groups.map((group) => {
      const extent =
        Math.max(...group.map(([support]) => support)) +
        Math.max(...group.map(([, query]) => query));
      return taskExtent(group.length, extent, bound) * extent;
    });
    if (rows.some((count, index) => count > bound && groups[index]!.length > 1)) continue;
    least = Math.min(
      least,
      rows.reduce((sum, count) => sum + count + CALL_OVERHEAD_ROWS, 0),
    );
  }
  return least;
}

test('no other division of the sorted tasks is cheaper', () => {
  fc.assert(
    fc.property(fc.array(size, { minLength: 1, maxLength: 9 }), rowsMax, (tasks, bound) => {
      fc.pre(!areAlike(tasks));
      expect(costOf(microBatchesOf(tasks, bound))).toBe(leastCost(tasks, bound));
    }),
  );
});

test('padding stays below the cost of a call per task', () => {
  fc.assert(
    fc.property(fc.array(size, { maxLength: 60 }), rowsMax, (tasks, bound) => {
      const alone = tasks.map((task) => microBatchesOf([task], bound));
      expect(costOf(microBatchesOf(tasks, bound))).toBeLessThanOrEqual(costOf(alone.flat()));
      for (const [{ taskCount, supportExtent, queryExtent } = assert.fail()] of alone)
        if (4 * (supportExtent + queryExtent) > Math.min(bound, 1024)) expect(taskCount).toBe(1);
    }),
  );
});

test('the order of tasks changes no shape, and tasks of equal size keep theirs', () => {
  fc.assert(
    fc.property(fc.array(size, { maxLength: 40 }), rowsMax, (tasks, bound) => {
      const shapesOf = (batches: readonly MicroBatch[]): unknown[] =>
        batches.map(({ taskCount, supportExtent, queryExtent }) => [
          taskCount,
          supportExtent,
          queryExtent,
        ]);
      const batches = microBatchesOf(tasks, bound);
      expect(shapesOf(microBatchesOf(tasks.toReversed(), bound))).toEqual(shapesOf(batches));
      expect(microBatchesOf(tasks, bound)).toEqual(batches);
      const places = batches.flatMap(({ taskPlaces }) => taskPlaces);
      for (const [index, place] of places.entries()) {
        const next = tasks[places[index + 1] ?? place]!;
        const same =
          rowExtent(next.supportRowCount) === rowExtent(tasks[place]!.supportRowCount) &&
          rowExtent(next.queryRowCount) === rowExtent(tasks[place]!.queryRowCount);
        if (same) expect(places[index + 1] ?? Infinity).toBeGreaterThan(place);
      }
    }),
  );
});

test('flat: tasks in their order, divided only where their rows would be too many', () => {
  fc.assert(
    fc.property(fc.array(size, { maxLength: 60 }), rowsMax, (tasks, bound) => {
      const batches = flatMicroBatchesOf(tasks, bound);
      expect(batches.flatMap(({ taskPlaces }) => taskPlaces)).toEqual([...tasks.keys()]);
      const rowsAt = (places: readonly number[]): number =>
        places.reduce(
          (sum, place) => sum + tasks[place]!.supportRowCount + tasks[place]!.queryRowCount,
          0,
        );
      for (const [index, { taskPlaces, taskCount, ...extents }] of batches.entries()) {
        const own = flatExtent(rowsAt(taskPlaces));
        expect(extents).toEqual({ supportExtent: 0, queryExtent: 0, flatExtent: own });
        expect(taskCount).toBeGreaterThanOrEqual(taskPlaces.length);
        if (taskPlaces.length > 1) expect(own).toBeLessThanOrEqual(bound);
        const next = batches[index + 1]?.taskPlaces[0];
        if (next !== undefined)
          expect(flatExtent(rowsAt([...taskPlaces, next]))).toBeGreaterThan(bound);
      }
    }),
  );
});

test('padded sizes cover their content, and there are few of them', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000_000 }), (count) => {
      expect(rowExtent(count)).toBeGreaterThanOrEqual(count);
      expect(rowExtent(count)).toBeLessThan(Math.max(9, 2 * count));
      expect(taskExtent(count, 8, 1024)).toBeGreaterThanOrEqual(count);
      expect(taskExtent(count, 8, 1024)).toBeLessThanOrEqual(4 * count);
      expect(flatExtent(count)).toBeGreaterThanOrEqual(count);
      expect(flatExtent(count)).toBeLessThan(Math.max(65, 1.25 * count));
      expect(flatExtent(flatExtent(count))).toBe(flatExtent(count));
      expect(packExtent(count)).toBeGreaterThanOrEqual(count);
      expect(packExtent(count)).toBeLessThan(Math.max(257, 4 * count));
      const lengthMax = Math.ceil(count / 96);
      expect(96 * memberDensity(count, 96, lengthMax)).toBeGreaterThanOrEqual(count);
      expect(96 * memberDensity(count, 96, lengthMax)).toBeLessThan(Math.max(49, 4 * count));
      expect(memberDensity(count, 96, lengthMax)).toBeLessThanOrEqual(lengthMax);
      expect(bagExtent(count, count)).toBeGreaterThan(count);
      expect(bagExtent(count, 10 * count)).toBeGreaterThan(count);
      expect(bagExtent(count, 10 * count)).toBeLessThan(Math.max(17, 4 * count + 4));
    }),
  );
  expect([rowExtent(0), rowExtent(1), rowExtent(9)]).toEqual([0, 8, 16]);
  expect([0, 1, 65, 128, 129, 897].map(flatExtent)).toEqual([0, 64, 80, 128, 160, 1024]);
  const taskCounts = [1, 2, 5, 16, 17, 33];
  expect(taskCounts.map((n) => taskExtent(n, 16, 16_384))).toEqual([4, 4, 16, 16, 32, 64]);
  expect([256, 257].map((rows) => taskExtent(1, rows, 16_384))).toEqual([4, 1]);
  expect(taskExtent(1, 16, 63)).toBe(1);
  expect([0, 48, 49].map((members) => memberDensity(members, 96, 8))).toEqual([0.5, 0.5, 2]);
  // 12 members in every bag with at most 12: no padding.
  expect(memberDensity(12 * 60, 60, 12)).toBe(12);
  expect([15, 16, 63, 64].map((bags) => bagExtent(bags, 1000))).toEqual([16, 64, 64, 256]);
  expect(bagExtent(100, 120)).toBe(121);
});
