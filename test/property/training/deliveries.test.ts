/** However workers and pace are, deliveries are nodes of the sum tree that cover each leaf once. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { cutIntoDeliveries } from '../../../coordinator/plan/deliveries.js';
import { at } from '../../../shared/base/arrays.js';
import { nodesIn, type LeafRange } from '../../../shared/sums/sum-tree.js';

const LEAVES_BYTE_COUNT_MAX = 48 * 1024;
const step = fc.record({
  leaves: fc.array(
    fc.record({
      cost: fc.integer({ min: 512, max: 20_000 }),
      jobByteCount: fc.integer({ min: 40, max: 24 * 1024 }),
    }),
    { minLength: 1, maxLength: 70 },
  ),
  workerCount: fc.nat(40),
  msPerCost: fc.option(fc.double({ min: 0, max: 2, noNaN: true })),
});

// Seen to fail: nodes divided after their first leaf.
it('deliveries are nodes, apart, and cover all leaves', () => {
  fc.assert(
    fc.property(step, ({ leaves, ...shares }) => {
      const deliveries = cutIntoDeliveries(leaves, shares);
      const covered: number[] = [];
      for (const delivery of deliveries) {
        expect(nodesIn(delivery, leaves.length)).toEqual([delivery]);
        for (let leaf = delivery.first; leaf < delivery.end; leaf += 1) covered.push(leaf);
      }
      expect(covered.sort((a, b) => a - b)).toEqual([...leaves.keys()]);
    }),
    { seed: 11, numRuns: 300 },
  );
});

it('deliveries fit into jobs, take about a second, and come largest first, from left to right', () => {
  fc.assert(
    fc.property(step, ({ leaves, ...shares }) => {
      const deliveries = cutIntoDeliveries(leaves, shares);
      const sumOf = ({ first, end }: LeafRange, of: 'cost' | 'jobByteCount'): number =>
        leaves.slice(first, end).reduce((sum, leaf) => sum + leaf[of], 0);
      for (const delivery of deliveries.filter(({ first, end }) => end - first > 1)) {
        expect(sumOf(delivery, 'jobByteCount')).toBeLessThanOrEqual(LEAVES_BYTE_COUNT_MAX);
        if (shares.msPerCost !== null)
          expect(sumOf(delivery, 'cost') * shares.msPerCost).toBeLessThanOrEqual(
            1_000 * (1 + 1e-9),
          );
      }
      for (let place = 1; place < deliveries.length; place += 1) {
        const [before, after] = [at(deliveries, place - 1), at(deliveries, place)];
        const [sizeBefore, sizeAfter] = [before.end - before.first, after.end - after.first];
        // Nodes of one level differ by a leaf.
        if (Math.abs(sizeBefore - sizeAfter) > 1) expect(sizeAfter).toBeLessThan(sizeBefore);
        else if (sizeBefore === sizeAfter) expect(after.first).toBeGreaterThan(before.first);
      }
    }),
    { seed: 11, numRuns: 300 },
  );
});
