/** The order of candidates by their values. */

import { float64At, int32At } from '../../../shared/base/arrays.js';

/**
 * Writes the places of the values that are not below the reserve into `order`, from the largest value to the
 * smallest, equal ones as they were, and returns how many there are. A value that is no number is left out.
 *
 * @param order as long as `values`.
 */
export type OrderByValue = (values: Float64Array, reserve: number, order: Int32Array) => number;

let scratch = new Int32Array(0);

/** Merges runs that double in length. */
export const plainOrder: OrderByValue = (values, reserve, order) => {
  if (scratch.length < values.length) scratch = new Int32Array(values.length);
  let count = 0;
  for (let place = 0; place < values.length; place += 1)
    if (float64At(values, place) >= reserve) {
      order[count] = place;
      count += 1;
    }
  let from: Int32Array = order;
  let to: Int32Array = scratch;
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
  return count;
};

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
