/** The policies by name. Each chooses among candidates and knows the chances of its choice; the share of traffic is not theirs to decide. */

import { at, float64At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type { RandomStream } from '../../../shared/base/random.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { RankedCandidate } from '../../../shared/config/decision-record.js';

interface PolicyInput {
  readonly candidates: readonly RankedCandidate[];
  /** Impressions that the model's probability is worth. */
  readonly priorImpressions: number;
  /** Impressions that were decided so far, at least 1. */
  readonly rounds: number;
}

interface Policy {
  /** Returns the index of the chosen candidate. Ties are broken by the stream, never by the index. */
  choose(input: PolicyInput, stream: RandomStream): number;
  /** Returns null where chances are known only by simulation. */
  exactChances(input: PolicyInput): Float64Array | null;
}

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

/** Nodes of the trapezoidal rule over a normal logit lie within so many deviations; errors are far below 1e-6. */
const LOGIT_DEVIATIONS = 6;
const LOGIT_NODES = 24;
/** As many as a setting may say. */
const MODEL_IMPRESSIONS_MAX = 1e6;

/**
 * Impressions n that a probability is worth, if its logit is normal: the variance of the probability is q (1 - q) / (n + 1), as
 * that of a Beta distribution of n impressions.
 *
 * @param probability of the moderated logit, from which the mean logit follows.
 * @param variance of the logit.
 */
export function modelImpressionsOf(probability: number, variance: number): number {
  const moderated = Math.log(probability / (1 - probability));
  const mean = moderated * Math.sqrt(1 + (Math.PI / 8) * variance);
  let [weights, first, second] = [0, 0, 0];
  for (let node = -LOGIT_NODES; node <= LOGIT_NODES; node += 1) {
    const x = (node * LOGIT_DEVIATIONS) / LOGIT_NODES;
    const weight = Math.exp((-x * x) / 2);
    const q = sigmoid(mean + x * Math.sqrt(variance));
    weights += weight;
    first += weight * q;
    second += weight * q * q;
  }
  const rate = first / weights;
  const spread = second / weights - rate * rate;
  const found = (rate * (1 - rate)) / spread - 1;
  // Rounding is left of the least variances, and nothing of probabilities of 0 and 1.
  return found > 0 && found < MODEL_IMPRESSIONS_MAX ? found : MODEL_IMPRESSIONS_MAX;
}

/** The least parameter of a posterior: probabilities of 0 and 1 would give none. */
const PARAMETER_MIN = 1e-3;

function posteriorOf(candidate: RankedCandidate, priorImpressions: number): Beta {
  const { trials, successes } = countsOf(candidate, priorImpressions);
  return {
    a: Math.max(successes, PARAMETER_MIN),
    b: Math.max(trials - successes, PARAMETER_MIN),
  };
}

type PolicySettings = Pick<ExplorationConfig, 'policy' | 'propensities'>;

export function policyOf({ policy, propensities }: PolicySettings): Policy {
  switch (policy) {
    // The share of a slot is its epsilon.
    case 'epsilon-greedy':
      return {
        choose: ({ candidates }, stream) => {
          let left = stream.uniform();
          const index = candidates.findIndex(() => (left -= 1 / candidates.length) < 0);
          // Rounding may leave a remainder behind the last candidate.
          return index < 0 ? candidates.length - 1 : index;
        },
        exactChances: ({ candidates }) =>
          new Float64Array(candidates.length).fill(1 / candidates.length),
      };
    case 'ucb':
      return {
        choose: (input, stream) => indexOfLargest(upperBounds(input), stream),
        exactChances: (input) => {
          const bounds = upperBounds(input);
          const largest = bounds.reduce((a, b) => Math.max(a, b), -Infinity);
          const tieCount = bounds.filter((bound) => bound === largest).length;
          return bounds.map((bound) => (bound === largest ? 1 / tieCount : 0));
        },
      };
    case 'thompson':
      return {
        choose: ({ candidates, priorImpressions }, stream) =>
          indexOfLargest(
            Float64Array.from(
              candidates,
              (each) => betaDraw(posteriorOf(each, priorImpressions), stream) * each.value,
            ),
            stream,
          ),
        exactChances: (input) => thompsonChances(input, propensities.exactAdgroupsMax),
      };
  }
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

/** The index of the largest value. Equal ones are drawn from. */
function indexOfLargest(values: Float64Array, stream: RandomStream): number {
  let largest = -Infinity;
  let tieCount = 0;
  let found = -1;
  for (let index = 0; index < values.length; index += 1) {
    const value = float64At(values, index);
    if (value > largest) [largest, found, tieCount] = [value, index, 1];
    // Each of k equal values is kept with probability 1 / k.
    else if (value === largest && stream.below((tieCount += 1)) === 0) found = index;
  }
  if (found < 0) throw new Error('there is no candidate to choose, or a score is not a number');
  return found;
}

/** The probability of each candidate to be chosen, and the standard error of the least certain of them. */
export interface Chances {
  readonly values: Float64Array;
  /** 0 where they are exact. */
  readonly standardErrorMax: number;
}

/**
 * Chances, by the policy's own expression or by simulated choices. The choice that was made counts as one of
 * the draws, so that what was shown never has a chance of 0.
 */
export function chancesOf(
  policy: Policy,
  input: PolicyInput,
  chosen: number,
  { draws, stream }: { readonly draws: number; readonly stream: RandomStream },
): Chances {
  const exact = policy.exactChances(input);
  if (exact !== null) return { values: exact, standardErrorMax: 0 };
  const counts = input.candidates.map(() => 0);
  counts[chosen] = 1;
  for (let draw = 1; draw < draws; draw += 1) {
    const index = policy.choose(input, stream);
    counts[index] = at(counts, index) + 1;
  }
  const values = Float64Array.from(counts, (count) => count / draws);
  const varianceMax = values.reduce((max, chance) => Math.max(max, chance * (1 - chance)), 0);
  return { values, standardErrorMax: Math.sqrt(varianceMax / draws) };
}

/** Nodes of the tanh-sinh rule run from -NODE_RANGE to NODE_RANGE. */
const NODE_RANGE = 3.2;
const NODES_EACH_SIDE = 48;
/** Probability left outside the interval that a posterior is looked at in, at each end. */
const TAIL = 1e-12;
const BISECTIONS = 60;
/** Chances that do not add up to 1 within this are not called exact. */
const SUM_ERROR_MAX = 1e-8;

interface Posterior extends Beta {
  readonly value: number;
  readonly logNorm: number;
  /** The interval that holds nearly all of the probability, times the value. */
  readonly low: number;
  readonly high: number;
}

/**
 * The exact chances of Thompson sampling, an integral over one posterior for each candidate:
 * P(candidate i has the largest value times draw) is
 * the integral of f_i(x) times the product over j of F_j(x value_i / value_j).
 *
 * @returns null for more candidates than `candidatesMax`, and where the integral is not accurate
 */
function thompsonChances(
  { candidates, priorImpressions }: Pick<PolicyInput, 'candidates' | 'priorImpressions'>,
  candidatesMax: number,
): Float64Array | null {
  if (candidates.length === 1) return Float64Array.of(1);
  if (candidates.length > candidatesMax) return null;
  const posteriors = candidates.map((candidate): Posterior => {
    const { value } = candidate;
    const beta = posteriorOf(candidate, priorImpressions);
    const logNorm = logBeta(beta);
    const low = value * quantileOf(TAIL, beta, logNorm);
    const high = value * quantileOf(1 - TAIL, beta, logNorm);
    return { ...beta, value, logNorm, low, high };
  });
  const chances = Float64Array.from(posteriors, (_, index) => chanceOf(index, posteriors));
  const sum = chances.reduce((a, b) => a + b, 0);
  if (!(Math.abs(sum - 1) <= SUM_ERROR_MAX)) return null;
  return chances.map((chance) => chance / sum);
}

/** In units of value: between two neighbouring ends of posteriors, every function is smooth. */
function chanceOf(index: number, posteriors: readonly Posterior[]): number {
  const own = at(posteriors, index);
  // Below the largest of the low ends, some other candidate is better for sure.
  const low = Math.max(...posteriors.map((posterior) => posterior.low));
  const ends = posteriors.flatMap((posterior) => [posterior.low, posterior.high]);
  const inside = ends.filter((end) => end > low && end < own.high).sort((a, b) => a - b);
  const points = [low, ...inside, own.high];
  let chance = 0;
  for (let panel = 1; panel < points.length; panel += 1)
    chance += integralOver(at(points, panel - 1), at(points, panel), index, posteriors);
  return chance;
}

function integralOver(
  low: number,
  high: number,
  index: number,
  posteriors: readonly Posterior[],
): number {
  if (high <= low) return 0;
  const own = at(posteriors, index);
  const others = posteriors.filter((other, place) => place !== index && other.high > low);
  const step = NODE_RANGE / NODES_EACH_SIDE;
  let sum = 0;
  for (let node = -NODES_EACH_SIDE; node <= NODES_EACH_SIDE; node += 1) {
    const t = node * step;
    const inner = (Math.PI / 2) * Math.sinh(t);
    // The distance from the nearer end, which keeps its digits where a density has a pole.
    const fromEnd = (high - low) / (1 + Math.exp(2 * Math.abs(inner)));
    const y = node < 0 ? low + fromEnd : high - fromEnd;
    const x = y / own.value;
    const weight = ((Math.PI / 2) * Math.cosh(t)) / (2 * Math.cosh(inner) ** 2);
    if (x <= 0 || x >= 1) continue;
    let part =
      weight * Math.exp((own.a - 1) * Math.log(x) + (own.b - 1) * Math.log1p(-x) - own.logNorm);
    for (const other of others) part *= betaCdf(y / other.value, other, other.logNorm);
    sum += part;
  }
  return (sum * step * (high - low)) / own.value;
}

/** The point below which a draw lies with this probability, or nearly so. */
function quantileOf(probability: number, beta: Beta, logNorm: number): number {
  let [low, high] = [0, 1];
  for (let bisection = 0; bisection < BISECTIONS; bisection += 1) {
    const middle = (low + high) / 2;
    if (betaCdf(middle, beta, logNorm) < probability) low = middle;
    else high = middle;
  }
  return probability < 0.5 ? low : high;
}

/** Lanczos coefficients for g = 7 (Godfrey, 2001); relative error below 1e-14. */
const LANCZOS = Float64Array.of(
  0.99999999999980993,
  676.5203681218851,
  -1259.1392167224028,
  771.32342877765313,
  -176.61502916214059,
  12.507343278686905,
  -0.13857109526572012,
  9.9843695780195716e-6,
  1.5056327351493116e-7,
);
const LANCZOS_G = 7;
const FRACTION_TERMS_MAX = 10_000;
const FRACTION_TOLERANCE = 1e-14;
const SMALLEST = 1e-300;

/** Parameters of a Beta distribution, both positive. */
interface Beta {
  readonly a: number;
  readonly b: number;
}

/** log Gamma(x) for x > 0. */
function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const shifted = x - 1;
  let sum = float64At(LANCZOS, 0);
  for (let term = 1; term < LANCZOS.length; term += 1)
    sum += float64At(LANCZOS, term) / (shifted + term);
  const height = shifted + LANCZOS_G + 0.5;
  return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(height) - height + Math.log(sum);
}

function logBeta({ a, b }: Beta): number {
  return logGamma(a) + logGamma(b) - logGamma(a + b);
}

/**
 * The probability that a draw is at most `x`: the regularised incomplete beta function, by its continued
 * fraction (modified Lentz), on the side where that converges fast.
 *
 * @param logNorm `logBeta` of the distribution, for callers that ask often
 */
function betaCdf(x: number, { a, b }: Beta, logNorm = logBeta({ a, b })): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logNorm);
  return x < (a + 1) / (a + b + 2)
    ? (front * betaFraction(x, a, b)) / a
    : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

function betaFraction(x: number, a: number, b: number): number {
  const apart = (value: number): number => (Math.abs(value) < SMALLEST ? SMALLEST : value);
  let c = 1;
  let d = 1 / apart(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= FRACTION_TERMS_MAX; m += 1) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / apart(1 + even * d);
    c = apart(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / apart(1 + odd * d);
    c = apart(1 + odd / c);
    fraction *= d * c;
    if (Math.abs(d * c - 1) < FRACTION_TOLERANCE) return fraction;
  }
  throw new Error(`the incomplete beta function did not converge at ${x}, ${a}, ${b}`);
}

/** A draw from Beta(a, b), as a ratio of Gamma draws. */
function betaDraw({ a, b }: Beta, stream: RandomStream): number {
  if (a >= 1 && b >= 1) {
    const first = gammaDraw(a, stream);
    return first / (first + gammaDraw(b, stream));
  }
  const first = logGammaDraw(a, stream);
  const second = logGammaDraw(b, stream);
  // In logarithms, because Gamma draws of a small shape underflow.
  return 1 / (1 + Math.exp(second - first));
}

/** The logarithm of a draw from Gamma(shape, 1), for every shape. */
function logGammaDraw(shape: number, stream: RandomStream): number {
  if (shape >= 1) return Math.log(gammaDraw(shape, stream));
  return Math.log(gammaDraw(shape + 1, stream)) + Math.log(1 - stream.uniform()) / shape;
}

/** A draw from Gamma(shape, 1) with a shape of at least 1: Marsaglia and Tsang (2000). */
function gammaDraw(shape: number, stream: RandomStream): number {
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = stream.normal();
    const root = 1 + c * x;
    if (root <= 0) continue;
    const v = root * root * root;
    const u = 1 - stream.uniform();
    const squared = x * x;
    if (u < 1 - 0.0331 * squared * squared) return d * v;
    if (Math.log(u) < 0.5 * squared + d * (1 - v + Math.log(v))) return d * v;
  }
}
