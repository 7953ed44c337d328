/** The section `auto` of a run config: model, method and training are searched for instead of given. */

import { z } from 'zod';
import { isRecord } from '../base/canonical-json.js';

/** The candidates of a search, and a model that the config names. */
export const SEARCH_TRIALS_MAX = 4;

export const AutoTrialsMaxSchema = z.int().min(1).max(SEARCH_TRIALS_MAX);

export const AutoConfigSchema = z
  .strictObject({
    trialsMax: AutoTrialsMaxSchema.optional().describe(
      `The number of trials, at most; ${SEARCH_TRIALS_MAX} if absent. A model that the config names is one of them.`,
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

/** With all pairs, there would be too many inputs for more categories than this: prepare chooses as many as six have. */
const PAIRED_CATEGORIES_MAX = 6;
const CHOSEN_PAIRS_MAX = 15;
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
  const chooses = categories.length > PAIRED_CATEGORIES_MAX;
  const targetEncodings = {
    of: chooses ? categories.slice(0, ENCODED_CATEGORIES_MAX) : [...categories, ...pairs],
    ...(chooses ? { pairsMax: CHOSEN_PAIRS_MAX } : {}),
    smoothing: ENCODING_SMOOTHING,
  };
  return { trunkRows, targetEncodings, ...data };
}
