/** Numbers that tell support rows apart. */

import { expect, test } from 'vitest';
import { supportHashesOf } from '../../../coordinator/scoring/support-hashes.js';

const hashesOf = (...tasks: readonly (readonly number[])[]): number[] => {
  const starts = new Int32Array(tasks.length + 1);
  for (const [task, rows] of tasks.entries()) starts[task + 1] = (starts[task] ?? 0) + rows.length;
  return supportHashesOf({ starts, logRows: Float64Array.from(tasks.flat()) });
};

test('equal rows have equal numbers, wherever their task stands', () => {
  const [first, second, third] = hashesOf([1, 2, 3], [9], [1, 2, 3]);
  expect(third).toBe(first);
  expect(second).not.toBe(first);
});

test('another row, order, count or task has another number, also beyond 32 bits', () => {
  const found = hashesOf([1, 2], [2, 1], [1, 3], [1], [], [1, 2 + 2 ** 32], [1 + 2 ** 32, 2]);
  expect(new Set(found).size).toBe(found.length);
  for (const hash of found) expect(Number.isSafeInteger(hash)).toBe(true);
});

test('single rows of a million are told apart', () => {
  const rows = Array.from({ length: 100_000 }, (_, row) => [row * 10]);
  expect(new Set(hashesOf(...rows)).size).toBe(rows.length);
});
