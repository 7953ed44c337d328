/** The section `auto` of a run config: model, method and training are searched for instead of given. */

import { z } from 'zod';
import { isRecord } from '../base/canonical-json.js';

const BUDGET_MINUTES_DEFAULT = 10;
const MINUTES_MAX = 7 * 24 * 60;
/** Trials of a search that is bounded by time, at most. */
const TRIALS_MAX_DEFAULT = 16;

export const BudgetMinutesSchema = z.number().positive().max(MINUTES_MAX);
export const AutoTrialsMaxSchema = z.int().min(1).max(200);

export const AutoConfigSchema = z
  .strictObject({
    budgetMinutes: BudgetMinutesSchema.optional().describe(
      `The time of the search. No trial begins that would probably end later; the last one is trained to the end. ${BUDGET_MINUTES_DEFAULT} if ` +
        'neither this nor trialsMax is given.',
    ),
    trialsMax: AutoTrialsMaxSchema.optional().describe(
      `The number of trials, at most; ${TRIALS_MAX_DEFAULT} if absent. Without budgetMinutes all of them are tried, however long it takes, and the ` +
        'choice is the same on any number of workers.',
    ),
    segment: z
      .string()
      .min(1)
      .optional()
      .describe('For a store with segments: the one whose tasks score. All are trained on.'),
  })
  .describe(
    '`qianmo auto` chooses model, method and training, which may then be left out. `method: auto` means the same as an empty section.',
  );
type AutoConfig = z.infer<typeof AutoConfigSchema>;

/** The length of a search. */
interface SearchBudget {
  readonly trialsMax: number;
  /** Null if time does not matter. */
  readonly minutes: number | null;
}

/** @param given of the command line, before what the config says. */
export function searchBudgetOf(
  config: AutoConfig,
  given: {
    readonly budgetMinutes?: number | undefined;
    readonly trialsMax?: number | undefined;
  } = {},
): SearchBudget {
  const budgetMinutes = given.budgetMinutes ?? config.budgetMinutes;
  const trialsMax = given.trialsMax ?? config.trialsMax;
  return {
    trialsMax: trialsMax ?? TRIALS_MAX_DEFAULT,
    minutes: budgetMinutes ?? (trialsMax === undefined ? BUDGET_MINUTES_DEFAULT : null),
  };
}

/**
 * The content of a run config in which `method: auto` is the section `auto`. Data that a search is made on get what is good on
 * most logs, where the config does not say otherwise: rows of small tasks train the trunk, and every category is
 * encoded across tasks.
 */
export function withAutoSection(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const { method, ...rest } = value;
  const isNamed = method === 'auto' || (isRecord(method) && method['kind'] === 'auto');
  const content = isNamed ? { auto: {}, ...rest } : value;
  if (!('auto' in content) || content.auto === undefined) return content;
  return { ...content, data: searchedData(rest['data']) };
}

/** With pairs of categories, there would be too many inputs for more of them than this. */
const PAIRED_CATEGORIES_MAX = 6;
const ENCODED_CATEGORIES_MAX = 64;
/** Less than the default of the section: a search has encodings of values that few rows have. */
const ENCODING_SMOOTHING = 5;

function searchedData(data: unknown): unknown {
  if (!isRecord(data) || !Array.isArray(data['features']) || 'segments' in data) return data;
  const categories = data['features'].flatMap((feature: unknown) =>
    isRecord(feature) && feature['kind'] === 'category' ? [feature['name']] : [],
  );
  const trunkRows = 'small-tasks';
  if (categories.length === 0) return { trunkRows, ...data };
  const pairs = categories.flatMap((one, index) =>
    categories.slice(index + 1).map((other) => [one, other]),
  );
  const of = categories.length > PAIRED_CATEGORIES_MAX ? categories : [...categories, ...pairs];
  const targetEncodings = {
    of: of.slice(0, ENCODED_CATEGORIES_MAX),
    smoothing: ENCODING_SMOOTHING,
  };
  return { trunkRows, targetEncodings, ...data };
}
