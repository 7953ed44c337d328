/**
 * The weights of a blend of arms, at least 0 and shrunk towards a prior, by Newton steps. Pure.
 *
 * The output of a blend is z0 + sum_a w_a (z_a - z0), with the output z0 of the arm that knows nothing but the
 * click rate of the training rows, and w minimises over w >= 0
 *
 *   sum of losses(w) + (s c / 2) sum_a (w_a - prior_a)^2
 *
 * for a strength s in impressions and the mean curvature c of the loss of one impression in one weight at the
 * prior, so that s does not depend on the size of outputs. (Stacking: Wolpert, 1992; with weights of at least 0:
 * Breiman, Stacked regressions, 1996.)
 */

import { at, float32At, float64At, int32At, numberAt } from '../../shared/base/arrays.js';
import { sigmoid, softplus } from '../../shared/base/logistic.js';
import { isOfValues, type CountedRows } from './metrics.js';

export interface BlendRows extends CountedRows {
  /** Outputs minus that of the training click rate, by arm: `[rowCount]` each. */
  readonly deviations: readonly Float32Array[];
  readonly centre: number;
}

interface BlendPrior {
  readonly weights: readonly number[];
  /** Impressions that the prior counts as much as. */
  readonly strength: number;
}

const NEWTON_STEPS_MAX = 50;
const HALVINGS_MAX = 30;
const DESCENT_SWEEPS = 200;
const TOLERANCE = 1e-11;

/** @param places the rows that are fitted to */
export function fitBlend(rows: BlendRows, places: Int32Array, prior: BlendPrior): number[] {
  const start = lossAround(rows, places, prior.weights);
  const armCount = prior.weights.length;
  const shown = places.reduce((sum, row) => sum + numberAt(rows.impressions, row), 0);
  const trace = prior.weights.reduce(
    (sum, _, arm) => sum + at(start.curvature, arm * armCount + arm),
    0,
  );
  const penalty = shown > 0 ? (prior.strength * trace) / armCount / shown : 0;
  // Without any curvature the rows say nothing about weights.
  if (!(penalty > 0)) return [...prior.weights];
  const penalised = (weights: readonly number[]): LossAround => {
    const found = lossAround(rows, places, weights);
    weights.forEach((weight, arm) => {
      const distance = weight - at(prior.weights, arm);
      found.loss += (penalty / 2) * distance * distance;
      found.slope[arm] = float64At(found.slope, arm) + penalty * distance;
      const diagonal = arm * armCount + arm;
      found.curvature[diagonal] = float64At(found.curvature, diagonal) + penalty;
    });
    return found;
  };
  let weights = [...prior.weights];
  let here = penalised(weights);
  for (let step = 0; step < NEWTON_STEPS_MAX; step += 1) {
    const target = boundedMinimum(here, weights);
    // Half of the slope along the step is what the parabola gains by it, at least.
    const gain = target.reduce(
      (sum, weight, arm) => sum + (float64At(here.slope, arm) * (at(weights, arm) - weight)) / 2,
      0,
    );
    if (!(gain > TOLERANCE * Math.abs(here.loss))) break;
    let share = 1;
    let next = target;
    let there = penalised(next);
    for (let halving = 0; halving < HALVINGS_MAX && !(there.loss <= here.loss); halving += 1) {
      share /= 2;
      next = weights.map((weight, arm) => weight + share * (at(target, arm) - weight));
      there = penalised(next);
    }
    if (!(there.loss <= here.loss)) break;
    [weights, here] = [next, there];
  }
  return weights;
}

/** The output of the blend for one row. */
export function blendedOutput(rows: BlendRows, weights: readonly number[], row: number): number {
  let output = rows.centre;
  for (let arm = 0; arm < weights.length; arm += 1)
    output += at(weights, arm) * numberAt(at(rows.deviations, arm), row);
  return output;
}

interface LossAround {
  loss: number;
  /** `[armCount]` */
  readonly slope: Float64Array;
  /** `[armCount, armCount]` */
  readonly curvature: Float64Array;
}

function lossAround(rows: BlendRows, places: Int32Array, weights: readonly number[]): LossAround {
  const armCount = weights.length;
  const found: LossAround = {
    loss: 0,
    slope: new Float64Array(armCount),
    curvature: new Float64Array(armCount * armCount),
  };
  const ofRow = isOfValues(rows) ? squaredLoss : logisticLoss;
  const { slope, curvature } = found;
  const deviations = new Float64Array(armCount);
  for (let place = 0; place < places.length; place += 1) {
    const row = int32At(places, place);
    const impressions = numberAt(rows.impressions, row);
    if (!(impressions > 0)) continue;
    let output = rows.centre;
    for (let arm = 0; arm < armCount; arm += 1) {
      const deviation = float32At(at(rows.deviations, arm), row);
      deviations[arm] = deviation;
      output += at(weights, arm) * deviation;
    }
    const ofOutput = ofRow(output, numberAt(rows.clicks, row), impressions);
    found.loss += ofOutput.loss;
    for (let arm = 0; arm < armCount; arm += 1) {
      const deviation = float64At(deviations, arm);
      slope[arm] = float64At(slope, arm) + ofOutput.slope * deviation;
      const scaled = ofOutput.curvature * deviation;
      for (let other = 0; other <= arm; other += 1) {
        const cell = arm * armCount + other;
        curvature[cell] = float64At(curvature, cell) + scaled * float64At(deviations, other);
      }
    }
  }
  for (let arm = 0; arm < armCount; arm += 1)
    for (let other = 0; other < arm; other += 1)
      curvature[other * armCount + arm] = float64At(curvature, arm * armCount + other);
  return found;
}

/** A loss and its derivatives in the output. */
interface RowLoss {
  readonly loss: number;
  readonly slope: number;
  readonly curvature: number;
}

function logisticLoss(output: number, clicks: number, impressions: number): RowLoss {
  const probability = sigmoid(output);
  return {
    loss: impressions * softplus(output) - clicks * output,
    slope: impressions * probability - clicks,
    curvature: impressions * probability * (1 - probability),
  };
}

function squaredLoss(output: number, weighted: number, weight: number): RowLoss {
  const residual = output - weighted / weight;
  return {
    loss: weight * residual * residual,
    slope: 2 * weight * residual,
    curvature: 2 * weight,
  };
}

/** The weights of at least 0 that minimise the parabola around `weights`, by coordinate descent. */
function boundedMinimum({ slope, curvature }: LossAround, weights: readonly number[]): number[] {
  const armCount = weights.length;
  const found = [...weights];
  for (let sweep = 0; sweep < DESCENT_SWEEPS; sweep += 1) {
    let moved = 0;
    for (let arm = 0; arm < armCount; arm += 1) {
      let gradient = float64At(slope, arm);
      for (let other = 0; other < armCount; other += 1)
        gradient +=
          float64At(curvature, arm * armCount + other) * (at(found, other) - at(weights, other));
      const before = at(found, arm);
      const after = Math.max(0, before - gradient / float64At(curvature, arm * armCount + arm));
      found[arm] = after;
      moved = Math.max(moved, Math.abs(after - before));
    }
    if (moved < TOLERANCE) break;
  }
  return found;
}
