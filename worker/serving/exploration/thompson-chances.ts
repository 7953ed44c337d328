/** The exact chances of Bernoulli Thompson sampling: an integral over one posterior for each candidate. */

import { at, numberAt } from '../../../shared/base/arrays.js';
import { countsOf, posteriorOf } from './candidate.js';
import { betaCdf, logBeta, type Beta } from './distributions.js';
import { chancesOfTies, type PolicyInput } from './policy.js';

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
 * P(candidate i has the largest value times draw) for each candidate:
 * the integral of f_i(x) times the product over j of F_j(x value_i / value_j).
 *
 * @returns null for more candidates than `candidatesMax`, and where the integral is not accurate
 */
export function thompsonChances(input: PolicyInput, candidatesMax: number): Float64Array | null {
  const { candidates, strengths, weight } = input;
  if (candidates.length === 1) return Float64Array.of(1);
  const counts = candidates.map((candidate, index) =>
    countsOf(candidate, numberAt(strengths, index)),
  );
  if (weight === 0) {
    const means = Float64Array.from(counts, ({ successes, trials }) => successes / trials);
    return chancesOfTies(means, input);
  }
  if (candidates.length > candidatesMax) return null;
  const posteriors = candidates.map(({ value }, index): Posterior => {
    const beta = posteriorOf(at(counts, index), weight);
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
