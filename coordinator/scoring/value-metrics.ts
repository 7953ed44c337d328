/**
 * Metrics of predicted values, in the unit of the values. Pure, float64. A weight counts as repeated
 * rows, except in rankings, where each row occurs once.
 */

import { at, demandSameLength, numberAt, spanAt } from '../../shared/base/arrays.js';
import type { TaskCounts } from './held-out-rows.js';
import { lossSum, sumOf, type CountedRows } from './metrics.js';

/** Places of a ranking that count by default. */
export const NDCG_AT = 5;

interface ValueMetrics {
  readonly mae: number;
  readonly rmse: number;
  /** 1 - squared error / squared error of the rows' mean; null if all values are equal. */
  readonly rSquared: number | null;
  /** Mean over the adgroups that have one; null if none has. */
  readonly ndcg: number | null;
  /** Places of a ranking that count. */
  readonly ndcgAt: number;
}

export function valueMetricsOf(
  predictions: Float32Array,
  rows: TaskCounts,
  ndcgAt: number,
): ValueMetrics {
  const weight = sumOf(rows.impressions);
  const meanSquare = lossSum(predictions, rows) / weight;
  const variance = varianceOf(rows);
  return {
    mae: absoluteErrorSum(predictions, rows) / weight,
    rmse: Math.sqrt(meanSquare),
    rSquared: variance > 0 ? 1 - meanSquare / variance : null,
    ndcg: meanNdcg(predictions, rows, ndcgAt),
    ndcgAt,
  };
}

function absoluteErrorSum(predictions: ArrayLike<number>, rows: CountedRows): number {
  demandSameLength(predictions, rows.clicks, rows.impressions);
  let sum = 0;
  for (let row = 0; row < predictions.length; row += 1) {
    const weight = numberAt(rows.impressions, row);
    if (weight > 0)
      sum += Math.abs(weight * numberAt(predictions, row) - numberAt(rows.clicks, row));
  }
  return sum;
}

/** The weighted variance of the values. */
function varianceOf(rows: CountedRows): number {
  const weight = sumOf(rows.impressions);
  const mean = sumOf(rows.clicks) / weight;
  const constant = new Float64Array(rows.clicks.length).fill(mean);
  const variance = lossSum(constant, rows) / weight;
  // Equal values in single precision leave a rounding error.
  return variance > 1e-12 * mean * mean ? variance : 0;
}

function meanNdcg(predictions: Float32Array, rows: TaskCounts, places: number): number | null {
  let sum = 0;
  let count = 0;
  for (let position = 0; position + 1 < rows.starts.length; position += 1) {
    const [start, end] = spanAt(rows.starts, position);
    const values = Float64Array.from(
      { length: end - start },
      (_, row) => at(rows.clicks, start + row) / at(rows.impressions, start + row),
    );
    const ndcg = ndcgOf(predictions.subarray(start, end), values, places);
    if (ndcg === null) continue;
    sum += ndcg;
    count += 1;
  }
  return count > 0 ? sum / count : null;
}

/**
 * Discounted gain 2^value - 1 of the first `places` rows by descending prediction, over that of the best
 * order (Burges et al., ICML 2005). Rows of equal prediction share their places. This is the
 * expectation over their orders, so the order of rows has no influence. Null if no value is above 0 or
 * if a value is below 0.
 */
export function ndcgOf(
  predictions: ArrayLike<number>,
  values: ArrayLike<number>,
  places: number,
): number | null {
  demandSameLength(predictions, values);
  let most = 0;
  for (let row = 0; row < values.length; row += 1) {
    const value = numberAt(values, row);
    if (!(value >= 0)) return null;
    most = Math.max(most, value);
  }
  if (most === 0) return null;
  // Divided by 2^most - 1, since the gain of a large value would be infinite.
  const gains = Float64Array.from(
    { length: values.length },
    (_, row) => (2 ** (numberAt(values, row) - most) - 2 ** -most) / (1 - 2 ** -most),
  );
  const best = discountedGain(gains, gains, places);
  return discountedGain(predictions, gains, places) / best;
}

function discountedGain(scores: ArrayLike<number>, gains: Float64Array, places: number): number {
  const order = Array.from(gains.keys()).sort((a, b) => at(scores, b) - at(scores, a));
  let sum = 0;
  for (let start = 0; start < Math.min(places, order.length);) {
    let end = start;
    let gain = 0;
    const score = at(scores, at(order, start));
    for (; end < order.length && at(scores, at(order, end)) === score; end += 1)
      gain += at(gains, at(order, end));
    let discounts = 0;
    for (let place = start; place < Math.min(places, end); place += 1)
      discounts += 1 / Math.log2(place + 2);
    sum += (gain / (end - start)) * discounts;
    start = end;
  }
  return sum;
}
