// The layout of a row pack, which coordinator and workers derive independently without sending it.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';

const ID_MAX = 2 ** 31 - 1;
// Dense, sparse and extreme ids take different paths through the code.
const ids = fc.oneof(
  fc.array(fc.integer({ min: 0, max: 70 }), { maxLength: 40 }),
  fc.array(fc.integer({ min: 0, max: ID_MAX }), { maxLength: 10 }),
  fc.array(fc.constantFrom(0, 31, 32, 63, 64, ID_MAX), { maxLength: 10 }),
);
const bagIds = fc.array(fc.integer({ min: -1, max: 40 }), { maxLength: 12 });

function taskOf([category, bag]: readonly [number[], number[]]): TaskRows {
  return {
    taskIndex: 0,
    rowCount: category.length,
    supportRowCount: 0,
    categoryIds: [Int32Array.from(category)],
    bagIds: [Int32Array.from(bag)],
    numbers: [],
    clicks: new Float32Array(),
    impressions: new Float32Array(),
    oracle: null,
    times: new Float64Array(),
    logRows: new Float64Array(),
  };
}

function uniqueAscending(ids: readonly number[]): number[] {
  return [...new Set(ids)].filter((id) => id >= 0).sort((a, b) => a - b);
}

test('contains every id of every table once, ascending, table by table', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(ids, bagIds), { minLength: 1, maxLength: 4 }), (tasks) => {
      const expected = [
        uniqueAscending(tasks.flatMap(([category]) => category)),
        uniqueAscending(tasks.flatMap(([, bag]) => bag)),
      ];
      const layout = rowPackLayoutOf(tasks.map(taskOf));
      expect(layout.idsByTable.map((table) => [...table])).toEqual(expected);
      expect(layout.startByTable).toEqual([0, expected[0]!.length]);
      expect(layout.rowCount).toBe(expected[0]!.length + expected[1]!.length);
    }),
  );
});

test('is empty without tasks', () => {
  expect(rowPackLayoutOf([])).toEqual({ idsByTable: [], startByTable: [], rowCount: 0 });
});
