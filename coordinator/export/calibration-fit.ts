/**
 * Calibration of outputs by evidence: a slope and an offset for the validation adgroups of each size,
 * fitted on the outputs that they would be served. With z an output, n its impressions and c its clicks,
 * a fit minimises
 *
 *   sum n softplus(a z + b) - c (a z + b)            clicks (Platt, 1999)
 *   sum n (a z + b)^2 / 2 - c (a z + b)              standardised values
 *   + SLOPE_PRECISION (a - a0)^2 / 2 + OFFSET_PRECISION (b - b0)^2 / 2
 *
 * The fit over all sizes is shrunk towards a0 = 1, b0 = 0, and that of each size towards the fit over all
 * sizes, so that a size with few adgroups takes over what holds in general.
 */

import { at } from '../../shared/base/arrays.js';
import { sigmoid, softplus } from '../../shared/base/logistic.js';
import type { LossKind } from '../../shared/tasks/task-label.js';

export interface Calibration {
  readonly slope: number;
  readonly offset: number;
}

/** Outputs with their labels, `[rowCount]` each; for values in standardised units. */
export interface CalibrationRows {
  readonly outputs: ArrayLike<number>;
  readonly clicks: ArrayLike<number>;
  readonly impressions: ArrayLike<number>;
}

export const IDENTITY: Calibration = { slope: 1, offset: 0 };

/** Standard deviations of 0.1 of a slope and 0.2 of an offset around what it is shrunk towards. */
const SLOPE_PRECISION = 100;
const OFFSET_PRECISION = 25;
/** A slope at or below 0 would turn the ranking around. */
const SLOPE_MIN = 0.05;
const ITERATION_COUNT_MAX = 50;
const STEP_SIZE_MIN = 1e-9;

export function fitCalibration(
  rows: CalibrationRows,
  loss: LossKind,
  prior: Calibration,
): Calibration {
  let current = prior;
  let currentLoss = penalisedLoss(rows, loss, prior, current);
  for (let iteration = 0; iteration < ITERATION_COUNT_MAX; iteration += 1) {
    const step = newtonStep(rows, loss, prior, current);
    let next = current;
    // The loss is convex, so that a short enough step along Newton's direction lowers it.
    for (let size = 1; size > STEP_SIZE_MIN; size /= 2) {
      const tried = {
        slope: Math.max(SLOPE_MIN, current.slope - size * step.slope),
        offset: current.offset - size * step.offset,
      };
      const triedLoss = penalisedLoss(rows, loss, prior, tried);
      if (triedLoss >= currentLoss) continue;
      next = tried;
      currentLoss = triedLoss;
      break;
    }
    const moved = Math.abs(next.slope - current.slope) + Math.abs(next.offset - current.offset);
    current = next;
    if (moved < STEP_SIZE_MIN) break;
  }
  return current;
}

function penalisedLoss(
  { outputs, clicks, impressions }: CalibrationRows,
  loss: LossKind,
  prior: Calibration,
  { slope, offset }: Calibration,
): number {
  let sum =
    (SLOPE_PRECISION * (slope - prior.slope) ** 2 +
      OFFSET_PRECISION * (offset - prior.offset) ** 2) /
    2;
  for (let row = 0; row < outputs.length; row += 1) {
    const z = slope * at(outputs, row) + offset;
    const convex = loss === 'binary' ? softplus(z) : (z * z) / 2;
    sum += at(impressions, row) * convex - at(clicks, row) * z;
  }
  return sum;
}

/** Inverse Hessian times gradient; of the offset alone where the slope would leave its bound. */
function newtonStep(
  { outputs, clicks, impressions }: CalibrationRows,
  loss: LossKind,
  prior: Calibration,
  { slope, offset }: Calibration,
): Calibration {
  let [gradientSlope, gradientOffset] = [
    SLOPE_PRECISION * (slope - prior.slope),
    OFFSET_PRECISION * (offset - prior.offset),
  ];
  let [slopeSlope, slopeOffset, offsetOffset] = [SLOPE_PRECISION, 0, OFFSET_PRECISION];
  for (let row = 0; row < outputs.length; row += 1) {
    const output = at(outputs, row);
    const shown = at(impressions, row);
    const z = slope * output + offset;
    const mean = loss === 'binary' ? sigmoid(z) : z;
    const curvature = shown * (loss === 'binary' ? mean * (1 - mean) : 1);
    const residual = shown * mean - at(clicks, row);
    gradientSlope += residual * output;
    gradientOffset += residual;
    slopeSlope += curvature * output * output;
    slopeOffset += curvature * output;
    offsetOffset += curvature;
  }
  const determinant = slopeSlope * offsetOffset - slopeOffset * slopeOffset;
  const slopeStep = (offsetOffset * gradientSlope - slopeOffset * gradientOffset) / determinant;
  if (slope === SLOPE_MIN && slopeStep > 0)
    return { slope: 0, offset: gradientOffset / offsetOffset };
  return {
    slope: slopeStep,
    offset: (slopeSlope * gradientOffset - slopeOffset * gradientSlope) / determinant,
  };
}
