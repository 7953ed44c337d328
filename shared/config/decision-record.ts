/**
 * Decisions of exploration, with everything that they were made from. A ranking server writes them into its row log; replay
 * and off-policy evaluation read them. The dashboard reads `ServedAdgroup`.
 */

import { z } from 'zod';
import { ExplorationConfigSchema } from './exploration-config.js';

export const CANDIDATES_MAX = 5000;
/** Places of a slate. */
export const SLOTS_MAX = 1000;

/** A bound on names of decisions, adgroups and classes. */
export const NAME_LENGTH_MAX = 200;

const name = z.string().min(1).max(NAME_LENGTH_MAX);
const chance = z.number().min(0).max(1);

export const RankedCandidateSchema = z.strictObject({
  adgroup: name,
  /** The value of a click: the bid, or 1. */
  value: z.number().positive(),
  /** The calibrated probability of a click. */
  probability: chance,
  impressions: z.number().nonnegative(),
  rewards: z.number().nonnegative(),
  /** Impressions, shown or about to be, whose outcome may still arrive: they count for the cut-off alone. */
  openImpressions: z.number().nonnegative().default(0),
  /** Impressions that the model has learned from. */
  learnedImpressions: z.number().nonnegative().default(0),
  /**
   * Impressions that the probability is worth by the variance of the block; null where blocks have none. The block is then all
   * that is known of the adgroup: the impressions and rewards since then are not added to it.
   */
  modelImpressions: z.number().positive().nullable().default(null),
  ageSeconds: z.number().nonnegative(),
  advertiserClass: name.nullable(),
});
export type RankedCandidate = z.infer<typeof RankedCandidateSchema>;

/** Everything that a decision depends on. */
const DecisionInputSchema = z
  .strictObject({
    id: name,
    seed: z.int().nonnegative(),
    epochMs: z.number().nonnegative(),
    /** Digest of the bundle whose model predicted the probabilities. */
    bundle: name,
    slots: z.int().min(1).max(SLOTS_MAX),
    /** Impressions that were decided before. */
    rounds: z.int().nonnegative(),
    candidates: z.array(RankedCandidateSchema).min(1).max(CANDIDATES_MAX),
    settings: ExplorationConfigSchema,
  })
  .refine(
    ({ candidates }) =>
      new Set(candidates.map(({ adgroup }) => adgroup)).size === candidates.length,
    {
      error: 'must name each adgroup once',
      path: ['candidates'],
    },
  );
export type DecisionInput = z.infer<typeof DecisionInputSchema>;

const DecidedSlotSchema = z.strictObject({
  /** The adgroup that the decision puts here. */
  adgroup: name,
  isExploration: z.boolean(),
  /** The probability that this adgroup is here, given the slots before. */
  propensity: z.number().positive().max(1),
});
export type DecidedSlot = z.infer<typeof DecidedSlotSchema>;

export const DecisionSchema = z.strictObject({
  kind: z.literal('decision'),
  input: DecisionInputSchema,
  /** False in apprentice mode: the slate without exploration was shown. */
  isShown: z.boolean(),
  decided: z.array(DecidedSlotSchema).max(SLOTS_MAX),
});
export type Decision = z.infer<typeof DecisionSchema>;

/** One slot of a logged decision, as another policy would have filled it. */
export interface JudgedSlot {
  /**
   * The probability of the slate up to this slot under the other policy, over that under the policy that
   * logged.
   */
  readonly weight: number;
  /** The reward that the model expects of the logged choice. */
  readonly expected: number;
  /** The reward that it expects of the other policy's choice here, times the weight of the slots before. */
  readonly expectedOfTarget: number;
}

const ServedSchema = z
  .object({
    impressions: z.number(),
    explored: z.number().describe('Those that exploration gave.'),
    propensities: z
      .number()
      .describe('Sum of the probabilities with which slots showed what they showed.'),
  })
  .describe('Impressions of which it is known how they came to be shown.');

export const ServedAdgroupSchema = z.object({
  adgroup: z.string(),
  impressions: z.number().describe('Those whose window has ended or whose outcome is there.'),
  rewards: z.number(),
  open: z.number().describe('Impressions whose window has not ended.'),
  firstMs: z.number().nullable().describe('The first impression; null if there was none.'),
  served: ServedSchema,
  all: ServedSchema.describe('The same of all adgroups, since the evidence began.'),
});
export type ServedAdgroup = z.output<typeof ServedAdgroupSchema>;
