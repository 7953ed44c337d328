/** Proposes a feature for one column, or says why it is left out. */

import { LEAKED_SHARE } from '../prepare/data-report.js';
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

/** @param targets the label of each row, from 0 to 1; none if it is not known */
export function proposeFeature(
  column: SampledColumn,
  targets: readonly (number | null)[],
): FeatureProposal {
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
  const told = measureLeak(column.values, targets, numbers?.valueOf ?? null);
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
  const isCode = isWhole && (distinct.size <= CODES_MAX || ID_NAME.test(name));
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

/** A feature has a column or an expression. */
function sourceOf(name: string, expression: string): object {
  return TAKEN_NAMES.has(name)
    ? { name: `${name}_value`, column: undefined, expression }
    : { expression };
}

const SMOOTHING_ROWS = 20;
const NUMBER_PARTS = 20;

/**
 * The share of the label's logloss that a value saves, learned on even rows and judged on odd ones. `prepare` measures it
 * on the whole store by SQL, which needs the config that is proposed here.
 * Numbers are told apart by equal parts of their order.
 */
function measureLeak(
  values: readonly (string | null)[],
  targets: readonly (number | null)[],
  valueOf: ((text: string) => number | null) | null,
): number {
  const cells = valueOf === null ? values : partsOf(values, valueOf);
  const sums = new Map<string, { sum: number; count: number }>();
  let [total, totalCount] = [0, 0];
  for (let row = 0; row < targets.length; row += 2) {
    const target = targets[row] ?? null;
    if (target === null) continue;
    const cell = cells[row] ?? '';
    const known = sums.get(cell) ?? { sum: 0, count: 0 };
    sums.set(cell, { sum: known.sum + target, count: known.count + 1 });
    total += target;
    totalCount += 1;
  }
  if (total <= 0 || total >= totalCount) return 0;
  const rate = total / totalCount;
  const loss = (target: number, p: number): number =>
    -target * Math.log(p) - (1 - target) * Math.log(1 - p);
  let [before, after] = [0, 0];
  for (let row = 1; row < targets.length; row += 2) {
    const target = targets[row] ?? null;
    if (target === null) continue;
    const { sum, count } = sums.get(cells[row] ?? '') ?? { sum: 0, count: 0 };
    before += loss(target, rate);
    after += loss(target, (sum + SMOOTHING_ROWS * rate) / (count + SMOOTHING_ROWS));
  }
  return before === 0 ? 0 : 1 - after / before;
}

function partsOf(
  values: readonly (string | null)[],
  valueOf: (text: string) => number | null,
): (string | null)[] {
  const numbers = values.map((text) => (text === null ? null : valueOf(text)));
  const sorted = numbers.filter((value) => value !== null).sort((a, b) => a - b);
  const edges = Array.from(
    { length: NUMBER_PARTS - 1 },
    (_, part) => sorted[Math.floor(((part + 1) * sorted.length) / NUMBER_PARTS)] ?? 0,
  );
  return numbers.map((value) =>
    value === null ? null : String(edges.filter((edge) => value >= edge).length),
  );
}
