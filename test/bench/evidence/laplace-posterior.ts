/**
 * The posterior of the personal part of a task whose prior is known: phi with independent normal priors of mean 0, and rows
 * whose logits are offset + features' phi plus a part that the features do not hold, of known variance. Laplace's
 * approximation; there, a logit of variance v is divided by sqrt(1 + pi v / 8) (MacKay 1992). Predictions integrate over it.
 */

import { float64At, numberAt } from '../../../shared/base/arrays.js';
import { sigmoid, softplus } from '../../../shared/base/logistic.js';
import { moderatedLogit } from '../../fixtures/moderated-logit.js';

export interface LinearRow {
  readonly offset: number;
  readonly features: readonly number[];
  /** Of the part of the logit that the features do not hold. */
  readonly otherVariance: number;
  readonly click: number;
}

export interface Posterior {
  readonly mean: Float64Array;
  /** `[width, width]` */
  readonly covariance: Float64Array;
}

const NEWTON_STEPS_MAX = 50;
const TOLERANCE = 1e-9;

export function laplacePosterior(
  rows: readonly LinearRow[],
  priorVariances: readonly number[],
): Posterior {
  const width = priorVariances.length;
  const objective = (phi: Float64Array): number => {
    let sum = 0;
    for (const [axis, variance] of priorVariances.entries())
      sum += float64At(phi, axis) ** 2 / (2 * variance);
    for (const row of rows) sum += lossAt(logitOf(row, phi) * shareOf(row.otherVariance), row);
    return sum;
  };
  let mean = new Float64Array(width);
  let value = objective(mean);
  for (let step = 0; step < NEWTON_STEPS_MAX; step += 1) {
    const { slope, covariance } = curvatureAt(mean, rows, priorVariances);
    const move = product(covariance, slope);
    let [next, share, nextValue] = [mean, 1, Infinity];
    for (; share > TOLERANCE; share /= 2) {
      next = mean.map((at, axis) => at - share * float64At(move, axis));
      nextValue = objective(next);
      if (nextValue <= value) break;
    }
    const isAtMode = !(nextValue < value - TOLERANCE);
    if (nextValue <= value) [mean, value] = [next, nextValue];
    if (isAtMode) break;
  }
  return { mean, covariance: curvatureAt(mean, rows, priorVariances).covariance };
}

/** The loss of a row that the posterior has not read. */
export function predictiveLoss(row: LinearRow, { mean, covariance }: Posterior): number {
  const own = product(covariance, row.features);
  let variance = row.otherVariance;
  for (const [axis, feature] of row.features.entries()) variance += feature * float64At(own, axis);
  return lossAt(moderatedLogit(logitOf(row, mean), variance), row);
}

function logitOf({ offset, features }: LinearRow, phi: Float64Array): number {
  let logit = offset;
  for (const [axis, feature] of features.entries()) logit += feature * float64At(phi, axis);
  return logit;
}

function shareOf(variance: number): number {
  return 1 / Math.sqrt(1 + (Math.PI * variance) / 8);
}

function lossAt(logit: number, { click }: Pick<LinearRow, 'click'>): number {
  return softplus(logit) - click * logit;
}

/** The gradient of the objective, and the inverse of its Hessian. */
function curvatureAt(
  phi: Float64Array,
  rows: readonly LinearRow[],
  priorVariances: readonly number[],
): { slope: Float64Array; covariance: Float64Array } {
  const width = priorVariances.length;
  const slope = Float64Array.from(
    priorVariances,
    (variance, axis) => numberAt(phi, axis) / variance,
  );
  const hessian = new Float64Array(width * width);
  for (const [axis, variance] of priorVariances.entries())
    hessian[axis * width + axis] = 1 / variance;
  for (const row of rows) {
    const share = shareOf(row.otherVariance);
    const probability = sigmoid(share * logitOf(row, phi));
    const weight = share * share * probability * (1 - probability);
    const residual = share * (probability - row.click);
    for (const [one, feature] of row.features.entries()) {
      slope[one] = float64At(slope, one) + residual * feature;
      for (let other = 0; other < width; other += 1) {
        const place = one * width + other;
        hessian[place] =
          float64At(hessian, place) + weight * feature * numberAt(row.features, other);
      }
    }
  }
  return { slope, covariance: inverseOf(hessian, width) };
}

/** By Gauss-Jordan elimination. A positive definite matrix needs no pivots. */
function inverseOf(matrix: Float64Array, width: number): Float64Array {
  const left = Float64Array.from(matrix);
  const inverse = new Float64Array(width * width);
  for (let axis = 0; axis < width; axis += 1) inverse[axis * width + axis] = 1;
  for (let pivot = 0; pivot < width; pivot += 1) {
    const scale = 1 / float64At(left, pivot * width + pivot);
    for (const rows of [left, inverse])
      for (let column = 0; column < width; column += 1)
        rows[pivot * width + column] = scale * float64At(rows, pivot * width + column);
    for (let row = 0; row < width; row += 1) {
      if (row === pivot) continue;
      const factor = float64At(left, row * width + pivot);
      for (const rows of [left, inverse])
        for (let column = 0; column < width; column += 1)
          rows[row * width + column] =
            float64At(rows, row * width + column) -
            factor * float64At(rows, pivot * width + column);
    }
  }
  return inverse;
}

function product(matrix: Float64Array, vector: ArrayLike<number>): Float64Array {
  const width = vector.length;
  return Float64Array.from({ length: width }, (_, row) => {
    let sum = 0;
    for (let column = 0; column < width; column += 1)
      sum += float64At(matrix, row * width + column) * numberAt(vector, column);
    return sum;
  });
}
