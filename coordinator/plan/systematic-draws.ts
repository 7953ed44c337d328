/**
 * Systematic sampling with unequal shares (Madow, 1949, "On the theory of systematic sampling, II"):
 * equally spaced points with one common offset, laid on the running total of the shares.
 */

import { at } from '../../shared/base/arrays.js';

/** The running total of `shares` in the order given by `order`, summed in float64. */
export function runningTotals(order: Int32Array, shares: Float64Array): Float64Array {
  let total = 0;
  return Float64Array.from(order, (place) => {
    total += at(shares, place);
    return total;
  });
}

/**
 * The places, ascending, on which `drawCount` points fall. For an offset that is uniform in
 * [0, 1), the expected number of draws of a place is `drawCount * its share / the total`. For any single
 * offset it is that number rounded down or up.
 */
export function systematicDraws(totals: Float64Array, drawCount: number, offset: number): number[] {
  const total = at(totals, totals.length - 1);
  return Array.from({ length: drawCount }, (_, draw) =>
    firstAbove(totals, ((offset + draw) / drawCount) * total),
  );
}

/**
 * The place of the first total above `point`; the last place if rounding put the point at the end.
 */
function firstAbove(totals: Float64Array, point: number): number {
  let low = 0;
  let high = totals.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (at(totals, middle) > point) high = middle;
    else low = middle + 1;
  }
  return low;
}
