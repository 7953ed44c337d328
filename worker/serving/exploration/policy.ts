/** What a policy is: a choice among candidates, and the chances of each to be chosen. */

import { float64At } from '../../../shared/base/arrays.js';
import type { RandomStream } from '../../../shared/base/random.js';
import type { Candidate } from './candidate.js';

/** What contextual policies know about the candidates, beside their counts. */
export type Context =
  | {
      readonly kind: 'linear';
      /** Predicted reward of each candidate, and the standard deviation of the prediction. */
      readonly means: readonly number[];
      readonly deviations: readonly number[];
    }
  | {
      readonly kind: 'logistic';
      /** Added to the scores, `[candidateCount]`. */
      readonly offsets?: readonly number[] | undefined;
      /** `[candidateCount][width]` */
      readonly features: readonly (readonly number[])[];
      /** Means and precisions of independent normal weights, `[width]` each. */
      readonly weights: readonly number[];
      readonly precisions: readonly number[];
    };

export interface PolicyInput {
  readonly candidates: readonly Candidate[];
  /** Strength of the prior of each candidate, in impressions. */
  readonly strengths: readonly number[];
  /** Impressions that were decided so far, at least 1. */
  readonly rounds: number;
  /** Strength of exploration: 1 is the published form, 0 exploits only. */
  readonly weight: number;
  readonly context: Context | null;
}

/** The probability of each candidate to be chosen, and the standard error of the least certain of them. */
export interface Chances {
  readonly values: Float64Array;
  /** 0 where they are exact. */
  readonly standardErrorMax: number;
}

export interface Policy {
  /** The index of the chosen candidate. Ties are broken by the stream, never by the index. */
  choose(input: PolicyInput, stream: RandomStream): number;
  /** Null where they are known only by simulation. */
  exactChances(input: PolicyInput): Float64Array | null;
}

/** A score for each candidate. The candidate with the largest score times value is chosen. */
type Scores = (input: PolicyInput, stream: RandomStream) => Float64Array;

export function scoredPolicy(
  scores: Scores,
  exactChances: (input: PolicyInput) => Float64Array | null,
): Policy {
  return {
    choose: (input, stream) => indexOfLargest(valued(scores(input, stream), input), stream),
    exactChances,
  };
}

/** Of scores without randomness, the largest ones share the probability. */
export function chancesOfTies(scores: Float64Array, input: PolicyInput): Float64Array {
  const values = valued(scores, input);
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const tieCount = values.reduce((count, value) => count + (value === largest ? 1 : 0), 0);
  return values.map((value) => (value === largest ? 1 / tieCount : 0));
}

/** Multiplies by the values of a click, in place. */
function valued(scores: Float64Array, { candidates }: PolicyInput): Float64Array {
  for (const [index, { value }] of candidates.entries())
    scores[index] = float64At(scores, index) * value;
  return scores;
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

/**
 * Chances, by the policy's own expression or by simulated choices. The choice that was made counts as one of
 * the draws, so that what was shown never has a chance of 0.
 */
export function chancesOf(
  policy: Policy,
  input: PolicyInput,
  chosen: number | null,
  { draws, stream }: { readonly draws: number; readonly stream: RandomStream },
): Chances {
  const exact = policy.exactChances(input);
  if (exact !== null) return { values: exact, standardErrorMax: 0 };
  const values = new Float64Array(input.candidates.length);
  let drawCount = 0;
  const count = (index: number): void => {
    values[index] = float64At(values, index) + 1;
    drawCount += 1;
  };
  if (chosen !== null) count(chosen);
  while (drawCount < draws) count(policy.choose(input, stream));
  let varianceMax = 0;
  for (let index = 0; index < values.length; index += 1) {
    const chance = float64At(values, index) / drawCount;
    values[index] = chance;
    varianceMax = Math.max(varianceMax, chance * (1 - chance));
  }
  return { values, standardErrorMax: Math.sqrt(varianceMax / drawCount) };
}
