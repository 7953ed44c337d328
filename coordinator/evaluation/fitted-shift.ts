/**
 * One logit shift per adgroup, estimated from its support rows by a logistic regression that has an
 * intercept only and the global model's logits as offset. The mean and deviation of the normal prior
 * on the intercept are chosen on validation adgroups (empirical Bayes).
 *
 * For values, the shift is the mean residual of the support rows, shrunk towards the prior mean.
 */

import { demandSameLength, numberAt } from '../../shared/base/arrays.js';
import { CLICK_LABEL } from '../../shared/tasks/task-label.js';
import { sigmoid } from '../../shared/base/logistic.js';
import { sumOf, type CountedRows } from '../scoring/metrics.js';

/** For values, in units of their standard deviation. */
export interface ShiftPrior {
  readonly mean: number;
  readonly deviation: number;
}

const NEWTON_STEPS_MAX = 200;
const NEWTON_STEP_LENGTH_MAX = 2;
const TOLERANCE = 1e-12;

/**
 * The s that minimises `sum n softplus(z + s) - c (z + s) + (s - mean)^2 / (2 deviation^2)`, by
 * Newton steps inside a shrinking bracket. The derivative rises everywhere, so there is one minimum.
 */
export function mapShift(logits: ArrayLike<number>, rows: CountedRows, prior: ShiftPrior): number {
  const { label = CLICK_LABEL } = rows;
  if (label.loss === 'squared') return valueShift(logits, rows, prior, label.deviation);
  demandSameLength(logits, rows.clicks, rows.impressions);
  const precision = 1 / (prior.deviation * prior.deviation);
  let low = -Infinity;
  let high = Infinity;
  let shift = prior.mean;
  for (let step = 0; step < NEWTON_STEPS_MAX; step += 1) {
    let slope = precision * (shift - prior.mean);
    let curvature = precision;
    for (let row = 0; row < logits.length; row += 1) {
      const impressions = numberAt(rows.impressions, row);
      const probability = sigmoid(numberAt(logits, row) + shift);
      slope += impressions * probability - numberAt(rows.clicks, row);
      curvature += impressions * probability * (1 - probability);
    }
    if (slope > 0) high = shift;
    else low = shift;
    const length = Math.max(
      -NEWTON_STEP_LENGTH_MAX,
      Math.min(NEWTON_STEP_LENGTH_MAX, -slope / curvature),
    );
    if (Math.abs(length) < TOLERANCE * (1 + Math.abs(shift))) break;
    const next = shift + length;
    shift = next > low && next < high ? next : (low + high) / 2;
  }
  return shift;
}

/**
 * The s that minimises, in units of the values' deviation d, `sum n (z + s - t)^2 / 2 +
 * (s - mean)^2 / (2 deviation^2)`: `(mean p + sum n (t - z)) / (p + sum n)` with the prior's
 * precision p, times d.
 */
function valueShift(
  values: ArrayLike<number>,
  rows: CountedRows,
  { mean, deviation }: ShiftPrior,
  unit: number,
): number {
  demandSameLength(values, rows.clicks, rows.impressions);
  const precision = 1 / (deviation * deviation);
  let residual = 0;
  for (let row = 0; row < values.length; row += 1)
    residual +=
      numberAt(rows.clicks, row) - numberAt(rows.impressions, row) * numberAt(values, row);
  return (unit * mean * precision + residual) / (precision + sumOf(rows.impressions));
}
