/** What policies know about an adgroup that could be shown. */

import type { Beta } from './distributions.js';

export interface Candidate {
  readonly adgroup: string;
  /** The value of a click: the bid, or 1. */
  readonly value: number;
  /** The calibrated probability of a click, as the model predicts it. */
  readonly probability: number;
  /** Settled impressions that the model has not learned from, and the rewards of them. */
  readonly impressions: number;
  readonly rewards: number;
  /** Impressions that the model has learned from: they are in its probability. */
  readonly learnedImpressions: number;
}

/** All that is known of an adgroup, in impressions. */
export function knownImpressions({ impressions, learnedImpressions }: Candidate): number {
  return impressions + learnedImpressions;
}

/** The evidence of the model and of the impressions since, as counts. */
interface Counts {
  readonly trials: number;
  readonly successes: number;
}

/** @param strength impressions that the model's probability is worth; positive, or 0 for no prior */
export function countsOf(candidate: Candidate, strength: number): Counts {
  return {
    trials: strength + candidate.impressions,
    successes: strength * candidate.probability + candidate.rewards,
  };
}

/** The least parameter of a posterior: probabilities of 0 and 1 would give none. */
const PARAMETER_MIN = 1e-3;

/** The posterior of counts, widened: `weight` multiplies its variance, or nearly so. */
export function posteriorOf({ trials, successes }: Counts, weight: number): Beta {
  return {
    a: Math.max(successes / weight, PARAMETER_MIN),
    b: Math.max((trials - successes) / weight, PARAMETER_MIN),
  };
}
