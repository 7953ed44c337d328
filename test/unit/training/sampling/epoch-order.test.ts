/** The order in which an epoch reads rows: each row once, and many rows window by window. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { epochOrder } from '../../../../coordinator/plan/sampler.js';

const terms = fc.record({
  seed: fc.nat(),
  epoch: fc.nat(3),
  count: fc.integer({ min: 1, max: 600 }),
});
const windows = fc
  .record({ runRows: fc.integer({ min: 1, max: 9 }), runs: fc.integer({ min: 1, max: 8 }) })
  .map(({ runRows, runs }) => ({ runRows, windowRows: runRows * runs }));

function rowsOf(...given: Parameters<typeof epochOrder>): number[] {
  const order = epochOrder(...given);
  return Array.from({ length: given[0].count }, (_, place) => order(place));
}

describe('epochOrder', () => {
  it('reads each row once', () => {
    fc.assert(
      fc.property(terms, windows, (given, sizes) => {
        const rows = rowsOf(given, sizes);
        expect([...rows].sort((a, b) => a - b)).toEqual([...rows.keys()]);
      }),
    );
  });

  it('reads few runs of adjacent rows in a window, of all parts of the rows', () => {
    // 1,003 rows are 100 runs of 10 and three rows more; 4 windows of 25 runs.
    const sizes = { runRows: 10, windowRows: 260 };
    const rows = rowsOf({ seed: 1, epoch: 0, count: 1_003 }, sizes);
    for (const window of [0, 1, 2, 3]) {
      const inWindow = rows.slice(window * 250, window === 3 ? undefined : (window + 1) * 250);
      const runs = new Set(inWindow.map((row) => Math.floor(row / 10)));
      expect(runs.size).toBe(window === 3 ? 26 : 25);
      expect(Math.min(...runs)).toBeLessThan(25);
      expect(Math.max(...runs)).toBeGreaterThan(75);
      expect(inWindow).not.toEqual([...inWindow].sort((a, b) => a - b));
    }
  });

  it('has each row at each place alike, where rows are few', () => {
    const [count, seeds] = [6, 3_000];
    const found = Array.from({ length: count * count }, () => 0);
    for (let seed = 0; seed < seeds; seed += 1)
      for (const [place, row] of rowsOf({ seed, epoch: 0, count }).entries())
        found[place * count + row]! += 1;
    const expected = seeds / count;
    const chiSquare = found.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    // 25 degrees of freedom: 52.6 is exceeded once in a thousand.
    expect(chiSquare).toBeLessThan(52.6);
  });

  it('opens a window of a hundred million rows without listing them', () => {
    const order = epochOrder({ seed: 1, epoch: 0, count: 100_000_000 });
    const rows = Array.from({ length: 2_000 }, (_, draw) => order(draw * 50_000));
    expect(new Set(rows).size).toBe(2_000);
    expect(Math.max(...rows)).toBeLessThan(100_000_000);
  });
});
