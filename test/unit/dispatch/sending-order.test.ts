/** The order in which jobs are sent: large ones early, so that no worker computes alone at the end. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inSendingOrder } from '../../../coordinator/dispatch/sending-order.js';

const sized = (sizes: readonly number[]) =>
  sizes.map((rowCount, jobIndex) => ({ jobIndex, rowCount }));
const sent = (sizes: readonly number[]): number[] =>
  inSendingOrder(sized(sizes)).map(({ jobIndex }) => jobIndex);

/** The time until all jobs are done, when each worker that becomes idle takes the next one. */
function makespan(sizes: readonly number[], workerCount: number): number {
  const freeAt = new Array<number>(workerCount).fill(0);
  for (const size of sizes) {
    const worker = freeAt.indexOf(Math.min(...freeAt));
    freeAt[worker] = (freeAt[worker] ?? 0) + size;
  }
  return Math.max(...freeAt);
}

describe('the order in which jobs are sent', () => {
  it('begins with jobs above the median, largest first, and goes on in job order', () => {
    expect(sent([20, 22, 25, 28, 35, 47, 65, 170])).toEqual([7, 6, 5, 4, 0, 1, 2, 3]);
  });

  it('ends a skewed step of two workers 50 ms before job order does', () => {
    const sizes = [20, 22, 25, 28, 35, 47, 65, 170];
    const inOrder = inSendingOrder(sized(sizes)).map(({ rowCount }) => rowCount);
    expect(makespan(sizes, 2)).toBe(267);
    expect(makespan(inOrder, 2)).toBe(217);
  });

  it('keeps job order where sizes are equal, unknown, or there is none', () => {
    expect(sent([5, 5, 5])).toEqual([0, 1, 2]);
    expect(inSendingOrder([{}, {}])).toEqual([{}, {}]);
    expect(inSendingOrder([])).toEqual([]);
  });

  it('sends each job once, and at most 32 before their turn', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1_000), { maxLength: 200 }), (sizes) => {
        const order = sent(sizes);
        expect([...order].sort((a, b) => a - b)).toEqual(sizes.map((_, place) => place));
        const firstInTurn = order.slice(32);
        expect(firstInTurn).toEqual([...firstInTurn].sort((a, b) => a - b));
      }),
    );
  });
});
