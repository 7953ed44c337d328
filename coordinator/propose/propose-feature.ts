/** Proposes a feature for one column, or says why it is left out. */

import type { DuckSession } from '../logs/duckdb-session.js';
import { LEAKED_SHARE, measureListedToldShare } from '../prepare/row-sample.js';
import { FeatureSchema, type FeatureConfig } from '../../shared/config/data-config.js';
import type { SampledColumn } from './sampled-column.js';
import { findBagSeparator, readNumbers, readTimes, readWords } from './text-forms.js';

type FeatureProposal =
  { readonly value: FeatureConfig; readonly reason: string | null } | { readonly leftOut: string };

/** Names that columns of the task store have already. */
const TAKEN_NAMES = new Set(['row', 'role', 'time', 'clicks', 'impressions', 'oracle']);
const VALUES_FOR_UNIQUENESS_MIN = 50;
/** A column with more distinct values per row is an id of the row. */
const ROW_ID_SHARE = 0.95;
/** Whole numbers with few values are codes, such as hours and positions. */
const CODES_MAX = 50;
/** Values of a category with more values must occur more than once. */
const RARE_VALUES_FROM = 1_000;
/** Numbers whose largest is so many times the median are put on a logarithm. */
const LONG_TAIL = 20;
const NESTED_TYPE = /^(STRUCT|MAP|UNION)\b/;
const ID_NAME = /(^|[^a-z])(id|ids|code|zip|zipcode|key)$|Id$/;

export interface KnownLabel {
  /** The label of each row, to find columns that tell it; null where a row has none, and empty if it is not known. */
  readonly targets: readonly (number | null)[];
  readonly loss: 'binary' | 'squared';
}

export async function proposeFeature(
  column: SampledColumn,
  { targets, loss }: KnownLabel,
  session: DuckSession,
): Promise<FeatureProposal> {
  const { name, type } = column;
  const texts = column.values.filter((value) => value !== null);
  const distinct = new Set(texts);
  if (texts.length === 0) return { leftOut: 'empty' };
  if (distinct.size === 1) return { leftOut: 'one value' };
  if (type !== null && NESTED_TYPE.test(type)) return { leftOut: `values of the type ${type}` };
  const numbers = readNumbers(name, texts);
  const isWhole = numbers !== null && texts.every((text) => /^-?\d+$/.test(text));
  const isUnique =
    texts.length >= VALUES_FOR_UNIQUENESS_MIN && distinct.size > ROW_ID_SHARE * texts.length;
  if (isUnique && (numbers === null || isWhole) && type?.endsWith(']') !== true)
    return { leftOut: readTimes(name, texts) === null ? 'another value in each row' : 'a time' };
  const values =
    numbers === null
      ? column.values
      : column.values.map((text) => (text === null ? null : numbers.valueOf(text)));
  const told =
    targets.length === 0
      ? 0
      : ((await measureListedToldShare({ values, targets, loss }, session)) ?? 0);
  if (told > LEAKED_SHARE)
    return {
      leftOut: `it tells ${(told * 100).toFixed(0)} % of the label, so it is known only after it`,
    };
  const named = TAKEN_NAMES.has(name) ? { name: `${name}_value`, column: name } : { name };
  const isFeature = (fields: object, reason: string | null): FeatureProposal => ({
    value: FeatureSchema.parse({ ...named, ...fields }),
    reason,
  });
  if (type?.endsWith(']') === true || texts.every((text) => text.startsWith('[')))
    return isFeature({ kind: 'bag' }, 'lists');
  const isCode = isWhole && (distinct.size <= CODES_MAX || areCodes(name, values, targets));
  if (numbers !== null && !isCode) {
    const values = texts.flatMap((text) => numbers.valueOf(text) ?? []).sort((a, b) => a - b);
    const median = values[Math.floor(values.length / 2)] ?? 0;
    const [smallest = 0] = values;
    const largest = values.at(-1) ?? 0;
    const isLong = smallest >= 0 && largest > LONG_TAIL * Math.max(median, 1e-9);
    const hasGaps = numbers.leavesOut || texts.length < column.values.length;
    return isFeature(
      {
        kind: 'number',
        ...(numbers.expression === null ? {} : sourceOf(name, numbers.expression)),
        ...(isLong ? { scale: 'log-standard' } : {}),
        ...(hasGaps ? { missing: median } : {}),
      },
      numbers.reason,
    );
  }
  const separator = isWhole ? null : findBagSeparator(texts);
  if (separator !== null)
    return isFeature(
      { kind: 'bag', separator },
      `several values, with "${separator}" between them`,
    );
  const words = isWhole ? { expression: null, reason: null } : readWords(name, texts);
  return isFeature(
    {
      kind: 'category',
      ...(words.expression === null ? {} : sourceOf(name, words.expression)),
      ...(distinct.size > RARE_VALUES_FROM ? { countMin: 2 } : {}),
    },
    words.reason,
  );
}

const RANGE_COUNT = 20;
const PRIOR_ROWS = 10;
const STANDARD_ERRORS_MIN = 3;

/**
 * Whether whole numbers stand for things, as ids of authors do: the labels of the same value tell more of a label than those of
 * values near it. The first half of the rows tells of the second, so days of a log in time are not such numbers.
 */
function areCodes(
  name: string,
  values: readonly (string | number | null)[],
  targets: KnownLabel['targets'],
): boolean {
  if (ID_NAME.test(name)) return true;
  const rows = values.flatMap((value, row) => {
    const target = targets[row] ?? null;
    return typeof value !== 'number' || target === null ? [] : [{ value, target }];
  });
  const half = Math.floor(rows.length / 2);
  const [known, judged] = [rows.slice(0, half), rows.slice(half)];
  const sorted = known.map(({ value }) => value).sort((a, b) => a - b);
  const bounds = Array.from(
    { length: RANGE_COUNT - 1 },
    (_, place) => sorted[Math.floor(((place + 1) * half) / RANGE_COUNT)] ?? 0,
  );
  const rangeOf = (value: number): number => bounds.filter((bound) => bound < value).length;
  const byValue = expectedLabels(known, (value) => value);
  const byRange = expectedLabels(known, rangeOf);
  const gains = judged.map(
    ({ value, target }) => (target - byRange(value)) ** 2 - (target - byValue(value)) ** 2,
  );
  const mean = gains.reduce((sum, gain) => sum + gain, 0) / Math.max(1, gains.length);
  const spread = gains.reduce((sum, gain) => sum + (gain - mean) ** 2, 0);
  return mean > 0 && mean * gains.length > STANDARD_ERRORS_MIN * Math.sqrt(spread);
}

/** The mean label of rows with the same key, drawn to that of all rows where they are few. */
function expectedLabels(
  rows: readonly { readonly value: number; readonly target: number }[],
  keyOf: (value: number) => number,
): (value: number) => number {
  const overall = rows.reduce((sum, { target }) => sum + target, 0) / Math.max(1, rows.length);
  const sums = new Map<number, { count: number; sum: number }>();
  for (const { value, target } of rows) {
    const key = keyOf(value);
    const { count = 0, sum = 0 } = sums.get(key) ?? {};
    sums.set(key, { count: count + 1, sum: sum + target });
  }
  return (value) => {
    const { count = 0, sum = 0 } = sums.get(keyOf(value)) ?? {};
    return (sum + PRIOR_ROWS * overall) / (count + PRIOR_ROWS);
  };
}

/** A feature has a column or an expression. */
function sourceOf(name: string, expression: string): object {
  return TAKEN_NAMES.has(name)
    ? { name: `${name}_value`, column: undefined, expression }
    : { expression };
}
