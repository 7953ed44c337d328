/**
 * A bounded sample of the rows, and how much of the label values tell: of one feature beyond the overall rate, or of two
 * beyond both alone. Values are learned on one half of the rows and judged on the other. The halves of a store are halves of
 * its training tasks; a log without a config is divided into even and odd rows.
 *
 * With p the rate that is known before, c and n clicks and impressions of a value in the first half, and s the smoothing, rows
 * of the second half are predicted by q = p + (c - n p) / (n + s). The gain is the logloss of p less that of q, or for values
 * the squared error. For two features, the log odds of p are those of the overall rate and what both add to it alone.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import { at } from '../../shared/base/arrays.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { literal, seededHash } from '../logs/sql.js';

/** Logs with more rows give about as many. */
const SAMPLED_ROW_COUNT = 100_000;
const RATE_MIN = 1e-6;
/** Rows at the overall rate that the rate of a value is added to. */
const SMOOTHING = 20;
/** Numbers are told apart by equal parts of their order. */
const NUMBER_PARTS = 20;
/** Above this, a column is probably known after the label alone. */
export const LEAKED_SHARE = 0.5;

export interface SampledLabels {
  readonly config: RunConfig;
  readonly labels: readonly TaskLabel[] | null;
}

/** The table `sampled_rows`: rows of `encodable`, drawn by a seeded hash, with `task_half` and the weight `n`. */
export async function createRowSample(
  { config, labels }: SampledLabels,
  session: DuckSession,
): Promise<void> {
  const total = await session.count('encodable');
  const oneIn = Math.max(1, Math.ceil(total / SAMPLED_ROW_COUNT));
  const draw = seededHash(config.seed, 'sample of the rows', 'CAST(row AS VARCHAR)');
  // By the adgroup, whose rows may be in several batches of trunk rows.
  const half = seededHash(config.seed, 'halves of the tasks', 'CAST(code AS VARCHAR)');
  await session.run(
    `CREATE TABLE sampled_rows AS SELECT * EXCLUDE (code), CAST(${half} % 2 AS INTEGER) AS task_half,
      ${lossOfLabels(labels) === 'squared' ? '1.0::DOUBLE' : 'impressions'} AS n
      FROM encodable WHERE ${draw} % ${oneIn} = 0`,
  );
}

type Loss = TaskLabel['loss'];

export function lossOfLabels(labels: SampledLabels['labels']): Loss {
  return labels?.[0]?.loss ?? 'binary';
}

/** SQL of a value, of numbers of the part of all rows that it lies in; null where it is missing. */
export function valueSql(column: string, isNumber: boolean): string {
  if (!isNumber) return `CAST(${column} AS VARCHAR)`;
  const rank = `percent_rank() OVER (PARTITION BY ${column} IS NULL ORDER BY ${column})`;
  return `CASE WHEN ${column} IS NOT NULL THEN CAST(floor(${rank} * ${NUMBER_PARTS}) AS VARCHAR) END`;
}

interface MeasuredRows {
  readonly loss: Loss;
  /** A table with `clicks`, `n`, `split` and `task_half`. */
  readonly rows?: string;
}

/**
 * The share of the label's loss that a value saves.
 *
 * @param value SQL over the rows, as `valueSql` makes it
 * @returns null if a half has no rows, or labels that do not differ.
 */
export async function measureToldShare(
  value: string,
  rows: MeasuredRows,
  session: DuckSession,
): Promise<number | null> {
  const told = await labelGain([value], { ...rows, smoothing: SMOOTHING }, session);
  return told === null ? null : Math.max(0, told.gain / told.lossBefore);
}

interface ListedRows {
  /** Numbers, or texts that stand for themselves. */
  readonly values: readonly (string | number | null)[];
  /** The label of each row; rows without one are left out. */
  readonly targets: readonly (number | null)[];
  readonly loss: Loss;
}

/** Measures the same share on a list of values and labels, before there is a store. */
export async function measureListedToldShare(
  { values, targets, loss }: ListedRows,
  session: DuckSession,
): Promise<number | null> {
  const codes = new Map<string | number | null, number>();
  const codeOf = (value: string | number | null): number => {
    const code = codes.get(value) ?? codes.size;
    codes.set(value, code);
    return code;
  };
  const isNumber = values.some((value) => typeof value === 'number');
  const numbers = isNumber ? values : values.map(codeOf);
  const list = (items: readonly unknown[]): string =>
    `unnest(from_json(${literal(JSON.stringify(items))}, '["DOUBLE"]'))`;
  await session.run(
    `CREATE OR REPLACE TABLE listed_rows AS SELECT *, 1.0::DOUBLE AS n, 0 AS split FROM (SELECT ${list(numbers)} AS value,
      ${list(targets)} AS clicks, unnest(range(${targets.length})) % 2 AS task_half) WHERE clicks IS NOT NULL`,
  );
  return measureToldShare(valueSql('value', isNumber), { loss, rows: 'listed_rows' }, session);
}

interface GainSettings extends MeasuredRows {
  readonly smoothing: number;
  readonly joins?: readonly string[];
}

interface Gain {
  /** The loss that an impression saves. */
  readonly gain: number;
  readonly lossBefore: number;
}

/**
 * @param values SQL of one or two values over the rows `e` with the joins.
 * @returns null if a half has no rows, or labels that do not differ.
 */
export async function labelGain(
  values: readonly string[],
  { loss, rows = 'sampled_rows', smoothing, joins = [] }: GainSettings,
  session: DuckSession,
): Promise<Gain | null> {
  const ofValues = loss === 'squared';
  const level = (rate: string): string => (ofValues ? rate : `ln(${rate} / (1 - ${rate}))`);
  const rateAt = (sum: string): string => (ofValues ? sum : `1 / (1 + exp(-(${sum})))`);
  const bounded = (rate: string): string =>
    ofValues ? rate : `least(greatest(${rate}, ${RATE_MIN}), ${1 - RATE_MIN})`;
  const lossOf = (q: string): string =>
    ofValues
      ? `sum(squares - 2 * ${q} * c1 + n1 * ${q} ** 2)`
      : `-sum(c1 * ln(${q}) + (n1 - c1) * ln(1 - ${q}))`;
  const names = values.map((_, place) => `value${place}`);
  const known = names.length === 1 ? [] : names;
  const learned = bounded(`(sum(c0) + ${smoothing} * r) / (sum(n0) + ${smoothing})`);
  const ofHalf = (sum: string, half: number): string =>
    `coalesce(sum(${sum}) FILTER (task_half = ${half}), 0)`;
  const [gain, lossBefore] = await session.row(
    `WITH base AS (SELECT ${bounded('sum(clicks) / sum(n)')} AS r FROM ${rows} WHERE split = 0 AND task_half = 0),
      cells AS (SELECT ${names.join(', ')}, ${ofHalf('clicks', 0)} AS c0, ${ofHalf('n', 0)} AS n0, ${ofHalf('clicks', 1)} AS c1,
        ${ofHalf('n', 1)} AS n1, ${ofHalf('clicks ** 2', 1)} AS squares
        FROM (SELECT e.*, ${values.map((value, place) => `${value} AS ${at(names, place)}`).join(', ')}
          FROM ${rows} e ${joins.join(' ')} WHERE split = 0)
        GROUP BY ${names.join(', ')}),
      ${known.map((name) => `${name}_alone AS (SELECT ${name}, ${level(learned)} - ${level('r')} AS beyond FROM cells CROSS JOIN base GROUP BY ${name}, r),`).join(' ')}
      known AS (SELECT c.*, ${bounded(rateAt([level('r'), ...known.map((name) => `${name}_alone.beyond`)].join(' + ')))} AS p
        FROM cells c CROSS JOIN base
        ${known.map((name) => `JOIN ${name}_alone ON c.${name} IS NOT DISTINCT FROM ${name}_alone.${name}`).join(' ')}),
      judged AS (SELECT *, ${bounded(`p + (c0 - n0 * p) / (n0 + ${smoothing})`)} AS q FROM known)
    SELECT (${lossOf('p')} - ${lossOf('q')}) / sum(n1), ${lossOf('p')} / sum(n1) FROM judged`,
  );
  const isKnown = Number.isFinite(gain) && Number(lossBefore) > 0;
  return isKnown ? { gain: Number(gain), lossBefore: Number(lossBefore) } : null;
}
