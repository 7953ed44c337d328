/**
 * The log of exploration: one JSON line for each decision, with everything that it was made from, and one for each
 * outcome. A ranking server writes it; replay and off-policy evaluation read it.
 */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';
import {
  ExplorationConfigSchema,
  WEIGHTS_MAX,
  type ExplorationConfig,
} from '../config/exploration-config.js';

const CANDIDATES_MAX = 5000;
/** Places of a slate. */
export const SLOTS_MAX = 1000;

/** Of names of decisions, adgroups and classes. */
export const NAME_LENGTH_MAX = 200;

const name = z.string().min(1).max(NAME_LENGTH_MAX);
const chance = z.number().min(0).max(1);
const finite = z.number();

const RankedCandidateSchema = z.strictObject({
  adgroup: name,
  /** The value of a click: the bid, or 1. */
  value: z.number().positive(),
  /** The calibrated probability of a click. */
  probability: chance,
  impressions: z.number().nonnegative(),
  rewards: z.number().nonnegative(),
  /** Impressions that the model has learned from. */
  learnedImpressions: z.number().nonnegative().default(0),
  ageSeconds: z.number().nonnegative(),
  advertiserClass: name.nullable(),
});
export type RankedCandidate = z.infer<typeof RankedCandidateSchema>;

const ContextSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('linear'),
    means: z.array(finite).max(CANDIDATES_MAX),
    deviations: z.array(z.number().nonnegative()).max(CANDIDATES_MAX),
  }),
  z.strictObject({
    kind: z.literal('logistic'),
    /** Added to each candidate's score, such as the log-odds that the model predicts; 0 if absent. */
    offsets: z.array(finite).max(CANDIDATES_MAX).optional(),
    features: z.array(z.array(finite).max(WEIGHTS_MAX)).max(CANDIDATES_MAX),
    weights: z.array(finite).max(WEIGHTS_MAX),
    precisions: z.array(z.number().positive()).max(WEIGHTS_MAX),
  }),
]);

/** Everything that a decision depends on. */
export const DecisionInputSchema = z
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
    context: ContextSchema.nullable(),
    settings: ExplorationConfigSchema,
  })
  .superRefine((input, context) => {
    const count = input.candidates.length;
    const told = input.context;
    const widths =
      told === null
        ? []
        : told.kind === 'linear'
          ? [told.means.length, told.deviations.length]
          : [told.features.length, told.offsets?.length ?? count];
    if (widths.some((width) => width !== count))
      context.addIssue({
        code: 'custom',
        path: ['context'],
        message: `must tell of ${count} candidates`,
      });
    if (
      told?.kind === 'logistic' &&
      [told.precisions, ...told.features].some(({ length }) => length !== told.weights.length)
    )
      context.addIssue({ code: 'custom', path: ['context'], message: 'must have one width' });
    const wanted = missingContext(told, input.settings);
    if (wanted !== null)
      context.addIssue({ code: 'custom', path: ['context'], message: `must be ${wanted}` });
    if (new Set(input.candidates.map(({ adgroup }) => adgroup)).size < count)
      context.addIssue({
        code: 'custom',
        path: ['candidates'],
        message: 'must name each adgroup once',
      });
  });
export type DecisionInput = z.infer<typeof DecisionInputSchema>;

const CONTEXT_BY_POLICY: Partial<Record<string, 'linear' | 'logistic'>> = {
  'lin-ucb': 'linear',
  'logistic-thompson': 'logistic',
};

/** The kind of context that decisions under these settings need and do not have; null if they have all that they need. */
export function missingContext(
  context: z.infer<typeof ContextSchema> | null,
  { policy, mode }: Pick<ExplorationConfig, 'policy' | 'mode'>,
): 'linear' | 'logistic' | null {
  const wanted = CONTEXT_BY_POLICY[policy];
  return wanted === undefined || mode === 'off' || context?.kind === wanted ? null : wanted;
}

const DecidedSlotSchema = z.strictObject({
  /** The adgroup that the decision puts here. */
  adgroup: name,
  isExploration: z.boolean(),
  /** The probability that this adgroup is here, given the slots before. */
  propensity: z.number().positive().max(1),
  /** The standard error of the propensity; 0 where it is exact. */
  propensityError: z.number().nonnegative(),
});
export type DecidedSlot = z.infer<typeof DecidedSlotSchema>;

const DecisionSchema = z.strictObject({
  kind: z.literal('decision'),
  input: DecisionInputSchema,
  /** False in apprentice mode: the slate without exploration was shown. */
  isShown: z.boolean(),
  decided: z.array(DecidedSlotSchema).max(SLOTS_MAX),
});
export type Decision = z.infer<typeof DecisionSchema>;

const OutcomeSchema = z.strictObject({
  kind: z.literal('outcome'),
  /** The decision, and the place of the slate, the first being 1. */
  decision: name,
  slot: z.int().min(1).max(SLOTS_MAX),
  reward: chance,
  epochMs: z.number().nonnegative(),
});
export type Outcome = z.infer<typeof OutcomeSchema>;

const LineSchema = z.discriminatedUnion('kind', [DecisionSchema, OutcomeSchema]);

export function encodeExplorationLine(record: Decision | Outcome): string {
  return `${JSON.stringify(record)}\n`;
}

/** @throws QianmoError `data` if the line is no record of a decision or an outcome. */
export function decodeExplorationLine(line: string, where: string): Decision | Outcome {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw notARecord(where, 'text that is not JSON', cause);
  }
  const parsed = LineSchema.safeParse(value);
  if (!parsed.success) throw notARecord(where, z.prettifyError(parsed.error), parsed.error);
  return parsed.data;
}

function notARecord(where: string, found: string, cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'this line is no record of exploration',
    where,
    expected: 'a decision or an outcome, as a ranking server logs them',
    found,
    cure: 'give the decision log of a server; infra/docs/exploration.md describes it',
    cause,
  });
}

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
