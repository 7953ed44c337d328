/** The policies by name. Each is a choice among candidates; the share of traffic is not theirs to decide. */

import { at, numberAt } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type {
  ExplorationConfig,
  ExplorationPolicy,
} from '../../../shared/config/exploration-config.js';
import { countsOf, knownImpressions, posteriorOf } from './candidate.js';
import { betaDraw, normalCdf } from './distributions.js';
import { chancesOfTies, scoredPolicy, type Policy, type PolicyInput } from './policy.js';
import { thompsonChances } from './thompson-chances.js';

type PolicySettings = Pick<ExplorationConfig, 'policy' | 'confidenceImpressions' | 'propensities'>;

export function policyOf(settings: PolicySettings): Policy {
  return POLICY_BY_NAME[settings.policy](settings);
}

const POLICY_BY_NAME: Readonly<Record<ExplorationPolicy, (settings: PolicySettings) => Policy>> = {
  // The share of a slot is its epsilon.
  'epsilon-greedy': () => weightedPolicy(() => 1),
  ucb: () => deterministicPolicy(upperBounds),
  'lin-ucb': () => deterministicPolicy(linearUpperBounds),
  thompson: ({ propensities }) =>
    scoredPolicy(betaDraws, (input) => thompsonChances(input, propensities.exactAdgroupsMax)),
  'logistic-thompson': () => scoredPolicy(logisticDraws, logisticChances),
  promotion: ({ confidenceImpressions }) =>
    weightedPolicy(
      ({ candidates, weight }, index) =>
        // A greater weight demands more impressions for the same confidence.
        1 - confidenceIn(knownImpressions(at(candidates, index)), confidenceImpressions * weight),
    ),
};

/** Confidence in an adgroup, from 0 to 1 (Li et al., KDD 2010). */
export function confidenceIn(impressions: number, confidenceImpressions: number): number {
  return confidenceImpressions === 0 ? 1 : Math.tanh(impressions / confidenceImpressions);
}

/** Candidates are drawn in proportion to weights; equally if all weights are 0. */
function weightedPolicy(weightOf: (input: PolicyInput, index: number) => number): Policy {
  const chances = (input: PolicyInput): Float64Array => {
    const weights = Float64Array.from(input.candidates, (_, index) => weightOf(input, index));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => (sum > 0 ? weight / sum : 1 / weights.length));
  };
  return {
    choose: (input, stream) => {
      const shares = chances(input);
      let left = stream.uniform();
      for (const [index, share] of shares.entries()) {
        left -= share;
        if (left < 0) return index;
      }
      // Rounding may leave a remainder behind the last candidate that has a share.
      return shares.findLastIndex((share) => share > 0);
    },
    exactChances: chances,
  };
}

function deterministicPolicy(scores: (input: PolicyInput) => Float64Array): Policy {
  return scoredPolicy(scores, (input) => chancesOfTies(scores(input), input));
}

/**
 * Upper confidence bounds at the level sqrt(1 / rounds): the smaller of two Chernoff bounds, on clicks and on
 * impressions without one. The first is tight for small rates, the second for large ones. A candidate without
 * any evidence has no bound.
 */
function upperBounds({ candidates, strengths, rounds, weight }: PolicyInput): Float64Array {
  const scores = new Float64Array(candidates.length);
  const level = weight * 0.5 * Math.log(rounds);
  for (let index = 0; index < candidates.length; index += 1) {
    const { trials, successes } = countsOf(at(candidates, index), numberAt(strengths, index));
    if (trials === 0) {
      scores[index] = Infinity;
      continue;
    }
    const rate = successes / trials;
    const ofClicks =
      rate + level / trials + Math.sqrt((2 * rate * level) / trials + (level / trials) ** 2);
    const ofOthers = rate + Math.sqrt((2 * Math.max(0, 1 - rate) * level) / trials);
    scores[index] = Math.min(ofClicks, ofOthers);
  }
  return scores;
}

/** theta x + alpha sqrt(x A^-1 x), with the weight for alpha (Li et al., WWW 2010). */
function linearUpperBounds({ context, weight }: PolicyInput): Float64Array {
  if (context?.kind !== 'linear') throw new Error('lin-ucb needs a linear context');
  return Float64Array.from(
    context.means,
    (mean, index) => mean + weight * numberAt(context.deviations, index),
  );
}

const betaDraws: Parameters<typeof scoredPolicy>[0] = (
  { candidates, strengths, weight },
  stream,
) => {
  const scores = new Float64Array(candidates.length);
  for (let index = 0; index < candidates.length; index += 1) {
    const counts = countsOf(at(candidates, index), numberAt(strengths, index));
    scores[index] =
      weight === 0
        ? counts.successes / counts.trials
        : betaDraw(posteriorOf(counts, weight), stream);
  }
  return scores;
};

/** One draw of all weights scores every candidate (Chapelle and Li, NIPS 2011, algorithm 3). */
const logisticDraws: Parameters<typeof scoredPolicy>[0] = ({ context, weight }, stream) => {
  if (context?.kind !== 'logistic') throw new Error('logistic-thompson needs a logistic context');
  const drawn = context.weights.map(
    (mean, place) =>
      mean + (weight * stream.normal()) / Math.sqrt(numberAt(context.precisions, place)),
  );
  return Float64Array.from(context.features, (features, index) =>
    sigmoid((context.offsets?.[index] ?? 0) + dot(features, drawn)),
  );
};

/** Exact for one candidate, and for two whose clicks have the same value: a normal difference. */
function logisticChances({ candidates, context, weight }: PolicyInput): Float64Array | null {
  if (context?.kind !== 'logistic') throw new Error('logistic-thompson needs a logistic context');
  if (candidates.length === 1) return Float64Array.of(1);
  const [first, second] = candidates;
  if (candidates.length > 2 || first?.value !== second?.value) return null;
  const difference = at(context.features, 0).map(
    (feature, place) => feature - numberAt(at(context.features, 1), place),
  );
  const [offset = 0, otherOffset = 0] = context.offsets ?? [];
  const mean = offset - otherOffset + dot(difference, context.weights);
  const variance = difference.reduce(
    (sum, value, place) => sum + (value * value) / numberAt(context.precisions, place),
    0,
  );
  const deviation = weight * Math.sqrt(variance);
  if (deviation === 0) {
    const chance = mean === 0 ? 0.5 : mean > 0 ? 1 : 0;
    return Float64Array.of(chance, 1 - chance);
  }
  return Float64Array.of(normalCdf(mean / deviation), normalCdf(-mean / deviation));
}

function dot(a: readonly number[], b: readonly number[]): number {
  let sum = 0;
  for (let place = 0; place < a.length; place += 1) sum += numberAt(a, place) * numberAt(b, place);
  return sum;
}
