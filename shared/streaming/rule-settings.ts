/** The settings of a learned update rule and of its windows, as jobs carry them. */

import { z } from 'zod';

/** A slot's number is one byte. */
export const SLOT_COUNT_MAX = 255;
export const RULE_RANK_MAX = 64;

export const RuleShapeSchema = z
  .strictObject({
    slotCount: z.int().min(1).max(SLOT_COUNT_MAX),
    /** Width of the feature embedding P; with 0 there is no low-rank part. */
    rank: z.int().min(0).max(RULE_RANK_MAX),
    /** The unit of ages and decays: the length of the stream that the rule was learned on. */
    timeScaleDays: z.number().positive(),
  })
  .readonly();
export type LearnedRuleShape = z.infer<typeof RuleShapeSchema>;

/**
 * `frozen` judges the new window by what was learned in the old one only. `progressive` continues to learn
 * in the new window, each batch after it was judged, as serving does.
 */
export const QueryModeSchema = z.enum(['progressive', 'frozen']);
export type QueryMode = z.infer<typeof QueryModeSchema>;

export const PairSettingsSchema = z.strictObject({
  /** Rows learned at once. With the whole old window and `frozen` it is one step of the rule. */
  batchRows: z.int().positive(),
  query: QueryModeSchema,
});
export type PairSettings = Readonly<z.infer<typeof PairSettingsSchema>>;
