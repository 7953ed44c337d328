/** Rows of the same adgroups in several parts, joined adgroup by adgroup. */

import { expect, test } from 'vitest';
import { joinByAdgroup, type ScoredTasks } from '../../../coordinator/scoring/joined-rows.js';

/** Rows that are numbered on from `first`. */
function part(
  taskIndices: readonly number[],
  starts: readonly number[],
  first: number,
): ScoredTasks {
  const numbers = Float32Array.from({ length: starts.at(-1) ?? 0 }, (_, row) => first + row);
  return {
    taskIndices,
    supportRowCounts: taskIndices.map(() => 3),
    rows: {
      starts: Int32Array.from(starts),
      clicks: numbers,
      impressions: numbers.map((n) => 2 * n),
    },
    logits: new Map([['constant', numbers.map((n) => -n)]]),
  };
}

test('rows follow one another in the order of adgroups, then of parts', () => {
  const joined = joinByAdgroup([part([5, 2], [0, 1, 3], 0), part([2, 7], [0, 1, 1], 10)]);
  expect(joined.taskIndices).toEqual([2, 5, 7]);
  expect([...joined.rows.starts]).toEqual([0, 3, 4, 4]);
  expect([...joined.rows.clicks]).toEqual([1, 2, 10, 0]);
  expect([...joined.rows.impressions]).toEqual([2, 4, 20, 0]);
  expect(joined.logits.get('constant')).toEqual(Float32Array.of(-1, -2, -10, -0));
});

test('an adgroup may have more rows than a call takes arguments', () => {
  const joined = joinByAdgroup([part([0], [0, 200_000], 0), part([0], [0, 1], 7)]);
  expect(joined.rows.clicks).toHaveLength(200_001);
  expect(joined.rows.clicks.at(-1)).toBe(7);
});
