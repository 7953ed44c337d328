/**
 * The policies by name. Each gives the chance of every candidate, from which the choice is drawn: so propensities are exact, also
 * where a policy approximates. The share of traffic is not theirs to decide.
 */

import { float64At, int32At } from '../../../shared/base/arrays.js';
import type { RandomStream } from '../../../shared/base/random.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { RankedCandidate } from '../../../shared/config/decision-record.js';
import { momentsOfModerated } from '../../../shared/methods/inner-loop/moderated-logit.js';

interface PolicyInput {
  readonly candidates: readonly RankedCandidate[];
  /** Impressions that the model's probability is worth. */
  readonly priorImpressions: number;
  /** Impressions that were decided so far, at least 1. */
  readonly rounds: number;
}

/** Returns the chance of each candidate; they add up to 1. */
type Policy = (input: PolicyInput) => Float64Array;

/** The evidence of the model as counts, with the impressions since then where its blocks have no variance. */
function countsOf(
  { probability, modelImpressions, impressions, rewards }: RankedCandidate,
  priorImpressions: number,
): { readonly trials: number; readonly successes: number } {
  if (modelImpressions !== null)
    return { trials: modelImpressions, successes: modelImpressions * probability };
  return {
    trials: priorImpressions + impressions,
    successes: priorImpressions * probability + rewards,
  };
}

/** As many as a setting may say. */
const MODEL_IMPRESSIONS_MAX = 1e6;

/**
 * Impressions n that a probability is worth, if its logit is normal: the variance of the probability is q (1 - q) / (n + 1), as
 * that of a Beta distribution of n impressions.
 *
 * @param probability of the moderated logit.
 * @param variance of the logit. Up to 3 of it the result is right to 5 %.
 */
export function modelImpressionsOf(probability: number, variance: number): number {
  const moderated = Math.log(probability / (1 - probability));
  const { rate, square } = momentsOfModerated(moderated, variance);
  const found = (rate * (1 - rate)) / (square - rate * rate) - 1;
  // Rounding is left of the least variances, and nothing of probabilities of 0 and 1.
  return found > 0 && found < MODEL_IMPRESSIONS_MAX ? found : MODEL_IMPRESSIONS_MAX;
}

/** The least parameter of a posterior: probabilities of 0 and 1 would give none. */
const PARAMETER_MIN = 1e-3;

export const POLICIES: Readonly<Record<ExplorationConfig['policy'], Policy>> = {
  // The share of a slot is its epsilon.
  'epsilon-greedy': ({ candidates }) =>
    new Float64Array(candidates.length).fill(1 / candidates.length),
  ucb: (input) => {
    const bounds = upperBounds(input);
    const largest = bounds.reduce((a, b) => Math.max(a, b), -Infinity);
    const tieCount = bounds.filter((bound) => bound === largest).length;
    return bounds.map((bound) => (bound === largest ? 1 / tieCount : 0));
  },
  thompson: thompsonChances,
};

/** Draws an index by its chance. */
export function drawIndex(chances: Float64Array, stream: RandomStream): number {
  let left = stream.uniform();
  const index = chances.findIndex((chance) => (left -= chance) < 0);
  // Rounding may leave a remainder behind the last candidate.
  return index < 0 ? chances.findLastIndex((chance) => chance > 0) : index;
}

/**
 * Values of the upper confidence bounds at the level sqrt(1 / rounds): the smaller of two Chernoff bounds, on clicks and
 * on impressions without one. The first is tight for small rates, the second for large ones.
 */
function upperBounds({ candidates, priorImpressions, rounds }: PolicyInput): Float64Array {
  const level = 0.5 * Math.log(rounds);
  return Float64Array.from(candidates, (candidate) => {
    const { trials, successes } = countsOf(candidate, priorImpressions);
    const rate = successes / trials;
    const ofClicks =
      rate + level / trials + Math.sqrt((2 * rate * level) / trials + (level / trials) ** 2);
    const ofOthers = rate + Math.sqrt((2 * Math.max(0, 1 - rate) * level) / trials);
    return Math.min(ofClicks, ofOthers) * candidate.value;
  });
}

/** Posteriors are looked at within so many deviations of their normal form. */
const DEVIATIONS = 5;
/** Points of the grid that all candidates share. */
const NODES_MAX = 48;
/** Quantiles of all posteriors together that the grid is chosen from, and the bounds of one posterior. */
const QUANTILES = 512;
const [QUANTILES_OF_ONE_MIN, QUANTILES_OF_ONE_MAX] = [3, 64];
/** Below the median of so many posteriors, the largest draw has a chance of 2^-30. */
const MEDIANS_MAX = 30;
const NEGLIGIBLE = 1e-9;

/** Numbers of a posterior: its value, the coefficients of `deviationOf`, and the end of its range. */
const STRIDE = 7;
const [VALUE, SCALE, SLOPE, OFFSET, SLOPE_VARIANCE, OFFSET_VARIANCE, TOP] = [0, 1, 2, 3, 4, 5, 6];

/**
 * The chances of Thompson sampling from Beta posteriors times values. With F_i the distribution function of candidate i and G the
 * product of all, candidate i is the largest with the chance that is the integral of G d(log F_i). The grid goes down from the
 * largest possible draw; between two points, log F_i is taken for a fixed part of log G, so that chances add up to 1.
 */
function thompsonChances({ candidates, priorImpressions }: PolicyInput): Float64Array {
  const count = candidates.length;
  const posteriors = posteriorsOf(candidates, priorImpressions);
  const order = Int32Array.from({ length: count }, (_, index) => STRIDE * index).sort(
    (a, b) => float64At(posteriors, b + TOP) - float64At(posteriors, a + TOP),
  );
  const chances = new Float64Array(count);
  let [logs, logsAbove] = [new Float64Array(count), new Float64Array(count)];
  let [all, logAll, activeCount] = [1, 0, 0];
  for (const x of gridOf(posteriors, order)) {
    while (activeCount < count && float64At(posteriors, int32At(order, activeCount) + TOP) > x)
      activeCount += 1;
    const [allAbove, logAllAbove] = [all, logAll];
    logAll = 0;
    for (let rank = 0; rank < activeCount; rank += 1) {
      const log = logNormalBelow(deviationOf(x, posteriors, int32At(order, rank)));
      logs[rank] = log;
      logAll += log;
    }
    all = Math.exp(logAll);
    const weight = (allAbove - all) / (logAllAbove - logAll);
    if (weight > 0)
      for (let rank = 0; rank < activeCount; rank += 1)
        chances[rank] =
          float64At(chances, rank) + weight * (float64At(logsAbove, rank) - float64At(logs, rank));
    [logs, logsAbove] = [logsAbove, logs];
    if (all < NEGLIGIBLE) break;
  }
  const sum = chances.reduce((a, b) => a + b, 0);
  const found = new Float64Array(count).fill(1 / count);
  if (sum > 0)
    for (let rank = 0; rank < count; rank += 1)
      found[int32At(order, rank) / STRIDE] = float64At(chances, rank) / sum;
  return found;
}

/** `[count, STRIDE]` */
function posteriorsOf(
  candidates: readonly RankedCandidate[],
  priorImpressions: number,
): Float64Array {
  const posteriors = new Float64Array(STRIDE * candidates.length);
  for (const [index, candidate] of candidates.entries()) {
    const { trials, successes } = countsOf(candidate, priorImpressions);
    const a = Math.max(successes, PARAMETER_MIN);
    const b = Math.max(trials - successes, PARAMETER_MIN);
    const [p, q] = [1 / (9 * a), 1 / (9 * b)];
    const first = STRIDE * index;
    posteriors.set([candidate.value, Math.cbrt(b / a), 1 - q, 1 - p, q, p], first);
    posteriors[first + TOP] = quantileAt(DEVIATIONS, posteriors, first);
  }
  return posteriors;
}

/**
 * The deviation of a standard normal that has the probability of draws below x: x / (value - x) is an F variate times a / b, whose
 * cube root is nearly normal (Paulson, 1942). Distribution functions are off by less than 0.01 from one click on.
 */
function deviationOf(x: number, posteriors: Float64Array, first: number): number {
  const root =
    float64At(posteriors, first + SCALE) *
    Math.cbrt(x / (float64At(posteriors, first + VALUE) - x));
  return (
    (float64At(posteriors, first + SLOPE) * root - float64At(posteriors, first + OFFSET)) /
    Math.sqrt(
      float64At(posteriors, first + SLOPE_VARIANCE) * root * root +
        float64At(posteriors, first + OFFSET_VARIANCE),
    )
  );
}

/** The inverse of `deviationOf`. */
function quantileAt(z: number, posteriors: Float64Array, first: number): number {
  const value = float64At(posteriors, first + VALUE);
  const slope = float64At(posteriors, first + SLOPE);
  const offset = float64At(posteriors, first + OFFSET);
  const q = float64At(posteriors, first + SLOPE_VARIANCE);
  const p = float64At(posteriors, first + OFFSET_VARIANCE);
  if (z * Math.sqrt(q) >= slope) return value;
  if (z * Math.sqrt(p) <= -offset) return 0;
  const spread = Math.sqrt(slope * slope * p + offset * offset * q - z * z * p * q);
  const root = (slope * offset + z * spread) / (slope * slope - z * z * q);
  const scaled = root / float64At(posteriors, first + SCALE);
  const odds = scaled * scaled * scaled;
  return (value * odds) / (1 + odds);
}

/** Quantiles of the posteriors, evenly thinned, the largest first: the grid is fine where posteriors are narrow. */
function gridOf(posteriors: Float64Array, order: Int32Array): Float64Array {
  const medians = new Float64Array(order.length);
  let bottom = 0;
  for (let index = 0; index < order.length; index += 1) {
    bottom = Math.max(bottom, quantileAt(-DEVIATIONS, posteriors, STRIDE * index));
    medians[index] = quantileAt(0, posteriors, STRIDE * index);
  }
  if (order.length >= MEDIANS_MAX)
    bottom = Math.max(bottom, float64At(medians.sort(), order.length - MEDIANS_MAX));
  const ofOne = Math.min(
    Math.max(Math.ceil(QUANTILES / order.length), QUANTILES_OF_ONE_MIN),
    QUANTILES_OF_ONE_MAX,
  );
  const points: number[] = [];
  for (const first of order) {
    if (float64At(posteriors, first + TOP) <= bottom) break;
    for (let index = 0; index < ofOne; index += 1) {
      const z = DEVIATIONS * ((2 * index + 1) / ofOne - 1);
      const x = quantileAt(z, posteriors, first);
      if (x > bottom) points.push(x);
    }
  }
  const sorted = Float64Array.from(points).sort();
  const nodeCount = Math.min(NODES_MAX, sorted.length);
  const nodes = new Float64Array(nodeCount + 1).fill(bottom);
  for (let node = 0; node < nodeCount; node += 1)
    nodes[node] = sorted[sorted.length - 1 - Math.floor((node * sorted.length) / nodeCount)] ?? NaN;
  return nodes;
}

/** The table of `logNormalBelow` has so many steps for a deviation, on both sides of 0. */
const TABLE_STEPS = 64;
const TABLE_DEVIATIONS = 8;

/** Logarithms of the normal distribution function, whose integral is summed from above by Simpson's rule. */
const LOG_NORMAL = (() => {
  const count = 2 * TABLE_DEVIATIONS * TABLE_STEPS + 1;
  const table = new Float64Array(count);
  const density = (z: number): number => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  let above = 0;
  for (let index = count - 1; index >= 0; index -= 1) {
    const z = index / TABLE_STEPS - TABLE_DEVIATIONS;
    const step = 1 / TABLE_STEPS;
    above += ((density(z) + 4 * density(z + step / 2) + density(z + step)) * step) / 6;
    table[index] = above;
  }
  // By symmetry, what lies below z lies above -z.
  return table.map((tail, index) =>
    index >= count >> 1 ? Math.log1p(-tail) : Math.log(float64At(table, count - 1 - index)),
  );
})();

/** The logarithm of the probability that a standard normal is below z; relative errors of the lesser side are below 1e-3. */
function logNormalBelow(z: number): number {
  const place = (z + TABLE_DEVIATIONS) * TABLE_STEPS;
  if (!(place > 0)) return -z * z * 0.5 - 3;
  const index = Math.floor(place);
  if (index >= LOG_NORMAL.length - 1) return 0;
  const low = float64At(LOG_NORMAL, index);
  return low + (place - index) * (float64At(LOG_NORMAL, index + 1) - low);
}
