/** Shares of a step in one exchange each. Seen to fail: without the bound on time, and with shares in job order. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  evenShares,
  isOneExchangeEach,
} from '../../../coordinator/dispatch/parcels/even-shares.js';

const ofRows = (...rowCounts: number[]) => rowCounts.map((rowCount) => ({ rowCount }));
const rowsOf = (shares: readonly { readonly rowCount: number }[][]): number[][] =>
  shares.map((share) => share.map(({ rowCount }) => rowCount));

test('the largest job goes with the smallest', () => {
  expect(rowsOf(evenShares(ofRows(9, 4, 7, 5), 2))).toEqual([
    [9, 4],
    [7, 5],
  ]);
});

test('jobs of one size are dealt in job order', () => {
  const orders = [0, 1, 2, 3].map((jobIndex) => ({ jobIndex, rowCount: 6 }));
  const shares = evenShares(orders, 2);
  expect(shares.map((share) => share.map(({ jobIndex }) => jobIndex))).toEqual([
    [0, 2],
    [1, 3],
  ]);
});

test('one large job is a share of its own', () => {
  expect(rowsOf(evenShares(ofRows(1, 1, 9, 1), 2))).toEqual([[9], [1, 1, 1]]);
});

test('every job is in one share, and no two shares differ by more than the largest job', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 5 }),
      (rowCounts, workerCount) => {
        const shares = rowsOf(evenShares(ofRows(...rowCounts), workerCount));
        const byValue = (a: number, b: number): number => a - b;
        expect(shares.flat().sort(byValue)).toEqual([...rowCounts].sort(byValue));
        const sums = shares.map((share) => share.reduce((sum, rows) => sum + rows, 0));
        if (shares.length === workerCount)
          expect(Math.max(...sums) - Math.min(...sums)).toBeLessThanOrEqual(Math.max(...rowCounts));
      },
    ),
  );
});

test.each([
  ['two small jobs each', { usualMs: 4, orders: 4, workers: 2 }, true],
  ['a worker that has nothing to share', { usualMs: 4, orders: 4, workers: 1 }, false],
  ['one job each', { usualMs: 4, orders: 2, workers: 2 }, false],
  ['jobs that fill an exchange', { usualMs: 16, orders: 4, workers: 2 }, false],
  ['many jobs', { usualMs: 1, orders: 10, workers: 2 }, false],
  ['jobs of unknown length', { usualMs: Infinity, orders: 4, workers: 2 }, false],
] as const)('%s', (_, { usualMs, orders, workers }, expected) => {
  const counts = { orderCount: orders, workerCount: workers };
  expect(isOneExchangeEach({ exchangeMs: 30, usualMs }, counts)).toBe(expected);
});
