/** The cut of leaves into deliveries, with worked numbers. */

import { describe, expect, it } from 'vitest';
import { cutIntoDeliveries, type CostedLeaf } from '../../../../coordinator/plan/deliveries.js';

const leavesOf = (costs: readonly number[], jobByteCount = 100): CostedLeaf[] =>
  costs.map((cost) => ({ cost, jobByteCount }));
const alike = (count: number): CostedLeaf[] => leavesOf(Array<number>(count).fill(10));

function cut(
  leaves: readonly CostedLeaf[],
  { workers, leafMs }: { readonly workers: number; readonly leafMs: number | null },
): string[] {
  const shares = { workerCount: workers, msPerCost: leafMs === null ? null : leafMs / 10 };
  return cutIntoDeliveries(leaves, shares).map(({ first, end }) => `${first}-${end}`);
}

const sizesOf = (deliveries: readonly string[]): number[] =>
  deliveries.map((name) => name.split('-').map(Number)).map(([first = 0, end = 0]) => end - first);

// Seen to fail: without the time of one more delivery, and without the bound on its duration.
describe('the deliveries of a short step', () => {
  it('are one for each worker', () => {
    const short = { leafMs: 10 };
    expect(cut(alike(16), { workers: 1, ...short })).toEqual(['0-16']);
    expect(cut(alike(16), { workers: 2, ...short })).toEqual(['0-8', '8-16']);
    expect(cut(alike(16), { workers: 4, ...short })).toEqual(['0-4', '4-8', '8-12', '12-16']);
  });

  it('of three workers are five, of which two do two', () => {
    // 4, 4 and 4 leaves, then 2 and 2: 60 ms, and two deliveries of 4 ms. Two halves would take 80 ms.
    const found = cut(alike(16), { workers: 3, leafMs: 10 });
    expect(found).toEqual(['4-8', '8-12', '12-16', '0-2', '2-4']);
  });

  it('leave workers idle where another delivery costs more than it saves', () => {
    // 16 leaves of 0.1 ms are 1.6 ms, and a second delivery to the same worker costs 4 ms.
    expect(cut(alike(16), { workers: 1, leafMs: 0.1 })).toEqual(['0-16']);
    expect(cut(alike(16), { workers: 3, leafMs: 0.1 })).toEqual(['0-8', '8-16']);
  });
});

describe('the deliveries of a long step', () => {
  it.each([1, 2, 3])('take about a second each: %i workers', (workers) => {
    // 500 ms for a leaf.
    const sizes = sizesOf(cut(alike(16), { workers, leafMs: 500 }));
    expect(sizes).toEqual(Array(8).fill(2));
  });
});

describe('the deliveries of a first step, whose pace is unknown,', () => {
  it('are at least four, and two for each worker', () => {
    const unknown = { leafMs: null };
    expect(sizesOf(cut(alike(16), { workers: 0, ...unknown }))).toEqual([4, 4, 4, 4]);
    expect(sizesOf(cut(alike(16), { workers: 2, ...unknown }))).toEqual([4, 4, 4, 4]);
    expect(sizesOf(cut(alike(16), { workers: 3, ...unknown }))).toEqual([4, 4, 2, 2, 2, 2]);
    expect(sizesOf(cut(alike(16), { workers: 64, ...unknown }))).toEqual(Array(16).fill(1));
    expect(cut(alike(3), { workers: 1, ...unknown })).toEqual(['0-1', '1-2', '2-3']);
  });
});

it('deliveries are small enough for a job', () => {
  // Jobs have at most 64 KiB, of which 16 are for fields that do not depend on tasks.
  const leaves = leavesOf(Array<number>(8).fill(10), 20 * 1024);
  expect(sizesOf(cut(leaves, { workers: 1, leafMs: 10 }))).toEqual([2, 2, 2, 2]);
  expect(sizesOf(cut(leaves, { workers: 1, leafMs: null }))).toEqual([2, 2, 2, 2]);
});
