/** The order of candidates by their values. */

import { float64At, int32At } from '../../../shared/base/arrays.js';

/**
 * Sorts the first `count` of `order`, places of `values`, from the largest value to the smallest, equal
 * ones as they were: merges of runs that double in length.
 *
 * @param scratch as long as `order`.
 */
export function sortByValue(
  values: Float64Array,
  order: Int32Array,
  scratch: Int32Array,
  count: number,
): void {
  let from = order;
  let to = scratch;
  for (let length = 1; length < count; length *= 2) {
    for (let start = 0; start < count; start += 2 * length)
      mergeRuns(values, from, to, [
        start,
        Math.min(start + length, count),
        Math.min(start + 2 * length, count),
      ]);
    [from, to] = [to, from];
  }
  if (from !== order) order.set(from.subarray(0, count));
}

function mergeRuns(
  values: Float64Array,
  from: Int32Array,
  to: Int32Array,
  [start, middle, end]: readonly [start: number, middle: number, end: number],
): void {
  let left = start;
  let right = middle;
  for (let at = start; at < end; at += 1) {
    const takesLeft =
      right >= end ||
      (left < middle &&
        float64At(values, int32At(from, left)) >= float64At(values, int32At(from, right)));
    to[at] = takesLeft ? int32At(from, left) : int32At(from, right);
    if (takesLeft) left += 1;
    else right += 1;
  }
}
