/** The parts that an arm decides with: its estimates, its exploration and its evidence. */

import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import type { Decision, DecisionInput } from '../../shared/exploration/decision-record.js';
import type { Lesson } from '../../shared/exploration/lesson.js';
import type { LiveBundle } from './live-bundle.js';
import type { ShownAdgroup } from './live-adaptation.js';
import type { EncodedMarket } from './world/encoded-market.js';

type FeedbackEvent =
  | {
      readonly kind: 'impression';
      readonly id: string;
      readonly adgroup: string;
      readonly epochMs: number;
      /** Given where a contextual policy learns. */
      readonly lesson?: Lesson;
    }
  | {
      readonly kind: 'reward';
      readonly id: string;
      readonly reward: number;
      readonly epochMs: number;
    };

/** Counts impressions and rewards, each once, when they have settled. */
export interface Evidence {
  take(events: readonly FeedbackEvent[], nowMs: number): unknown;
  evidenceOf(adgroup: string): { readonly impressions: number; readonly rewards: number };
}

/** The weights of a contextual policy, which the evidence teaches. */
interface LearnedPolicy {
  /** The lesson of a candidate, if it is shown. */
  lessonOf(candidate: {
    readonly adgroup: string;
    readonly probability: number;
    /** Values of the columns that the policy learns from, with their names. */
    readonly values: readonly string[];
  }): Lesson;
  /** The knowledge of candidates by their lessons, from what has settled so far. */
  contextOf(lessons: readonly Lesson[]): DecisionInput['context'];
}

/** Exploration as a ranking server has it. */
interface MarketExploration {
  readonly evidence: Evidence;
  /** Null for policies that learn no weights. */
  readonly learned: LearnedPolicy | null;
  readonly decide: (input: DecisionInput) => Decision;
}

/** Scores candidates that were encoded ahead. */
interface MarketScorer {
  /** Writes the logit of each adgroup in the context of an auction. */
  score(auction: number, adgroups: Uint32Array, logits: Float32Array): void;
}

/** The parts of a ranking server that a market uses. Whoever joins coordinator and worker hands them in. */
export interface MarketServing {
  /** The scorer in use, as `kernel avx2`. */
  readonly scorer: string;
  scorerOf(bundle: LiveBundle, encoded: EncodedMarket, candidatesMax: number): MarketScorer;
  openExploration(settings: ExplorationConfig): MarketExploration;
}

export interface Explorer extends MarketExploration {
  readonly settings: ExplorationConfig;
  /** Impressions of the log that the block of an adgroup rests on. */
  readonly loggedImpressionsOf: (adgroup: number) => number;
}

export interface ServedArm {
  /** Digest of the bundle; `truth` for the oracle. */
  readonly bundle: string;
  /** Writes the probability of a click of each candidate of an auction. */
  estimate(auction: number, probabilities: Float64Array): void;
  /** Null for an arm that only exploits. */
  readonly explorer: Explorer | null;
  /** Learns from rows of the market, and returns the adgroups that have; null for an arm that does not learn. */
  readonly refresh: ((adgroups: readonly ShownAdgroup[]) => Promise<readonly number[]>) | null;
}
