/**
 * A report of the features of a log: missing and distinct values, values that only test tasks have, how far they drift
 * over time, and how much of the label a value tells alone. It reads a bounded number of rows, drawn by a hash.
 */

import { warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import type { FeatureEncoding } from './feature-encoding.js';
import {
  createRowSample,
  LEAKED_SHARE,
  lossOfLabels,
  measureToldShare,
  valueSql,
  type SampledLabels,
} from './row-sample.js';

export interface DataReport {
  /** The rows that were read. */
  readonly rowCount: number;
  /** Ascending; none without times. */
  readonly periods: readonly ReportedPeriod[];
  readonly features: readonly ReportedFeature[];
}

interface ReportedPeriod {
  /** The day, or the number of the part of the whole time. */
  readonly name: string;
  readonly rowCount: number;
  /** Clicks per impression, or the mean value. */
  readonly rate: number;
}

interface ReportedFeature {
  readonly name: string;
  /** The share of rows without a value, or with the number that replaces a missing one. */
  readonly missingShare: number;
  readonly valueCount: number;
  /** The share of test rows whose value the dictionary does not hold; null without dictionary or test rows. */
  readonly unseenShare: number | null;
  /**
   * The largest distance (total variation) between the values of a period and those of all rows, less what chance makes of
   * it; null without periods.
   */
  readonly drift: number | null;
  /** The place of that period. */
  readonly driftPeriod: number | null;
  /**
   * The share of the logloss, or squared error, that the value alone saves on tasks that it was not learned on; null where
   * labels do not differ, or segments have labels of their own.
   */
  readonly toldShare: number | null;
}

/** Frequent values that are told apart over time. */
const TIMED_VALUES_MAX = 50;
const PERIOD_ROWS_MIN = 200;
const SECONDS_PER_DAY = 86_400;
const DAYS_MAX = 60;
const PARTS_OF_TIME = 10;
/** Times below are no dates in seconds. */
const DATE_MIN = 1e8;

interface ReportedData extends SampledLabels {
  /** Encodings of `data.features`. */
  readonly encodings: readonly FeatureEncoding[];
}

/** @param session with the view `encodable` and the dictionaries; it has the table `sampled_rows` afterwards. */
export async function dataReportOf(
  { config, encodings, labels }: ReportedData,
  session: DuckSession,
): Promise<DataReport> {
  await createRowSample({ config, labels }, session);
  const [first = 0, last = 0] = (
    await session.row('SELECT min(time), max(time) FROM sampled_rows')
  ).map(Number);
  const period = periodOf(first, last);
  await session.run(
    `CREATE VIEW report_rows AS SELECT *, ${period.sql} AS period FROM sampled_rows`,
  );
  const periods = await session.rows(
    `SELECT period, CAST(count(*) AS DOUBLE), sum(clicks) / sum(n) FROM report_rows
      WHERE period IS NOT NULL GROUP BY period ORDER BY period`,
  );
  const places = periods.map(([place]) => Number(place));
  const hasOneLabel = labels === null || labels.length === 1;
  const features: ReportedFeature[] = [];
  for (const [index, encoding] of encodings.entries()) {
    const declared = config.data.features[index];
    const missing =
      declared?.kind === 'number' && declared.missing !== undefined
        ? `nullif(f${index}, ${declared.missing}::DOUBLE)`
        : `f${index}`;
    const value = valueSql(missing, declared?.kind === 'number');
    const [missingShare, valueCount, drift, driftPeriod] = await session.row(
      featureSql(missing, value),
    );
    features.push({
      name: encoding.feature.name,
      missingShare: Number(missingShare),
      valueCount: Number(valueCount),
      unseenShare: await unseenShare(index, encoding, session),
      drift: numberOrNull(drift),
      driftPeriod: driftPeriod === null ? null : places.indexOf(Number(driftPeriod)),
      toldShare: hasOneLabel
        ? await measureToldShare(value, { loss: lossOfLabels(labels) }, session)
        : null,
    });
  }
  return {
    rowCount: await session.count('report_rows'),
    periods: periods.map(([place, rowCount, rate]) => ({
      ...{ name: period.nameOf(Number(place)), rowCount: Number(rowCount), rate: Number(rate) },
    })),
    features,
  };
}

function numberOrNull(value: unknown): number | null {
  return value === null || value === undefined ? null : Number(value);
}

interface Period {
  /** SQL of the place of a row's period. */
  readonly sql: string;
  readonly nameOf: (place: number) => string;
}

/** Days, or parts of the whole time where that is shorter, longer or has no dates. */
function periodOf(first: number, last: number): Period {
  const nameOf = (place: number): string => `part ${place + 1}`;
  if (!(last > first)) return { sql: 'NULL::DOUBLE', nameOf };
  const dayCount = Math.floor(last / SECONDS_PER_DAY) - Math.floor(first / SECONDS_PER_DAY) + 1;
  if (first >= DATE_MIN && dayCount > 1 && dayCount <= DAYS_MAX)
    return {
      sql: `floor(time / ${SECONDS_PER_DAY})`,
      nameOf: (day) => new Date(day * SECONDS_PER_DAY * 1000).toISOString().slice(0, 10),
    };
  const part = `floor((time - (${first}::DOUBLE)) / ${last - first}::DOUBLE * ${PARTS_OF_TIME})`;
  return { sql: `least(${part}, ${PARTS_OF_TIME - 1})`, nameOf };
}

/** One row: the share of missing values, distinct values, the drift and its period. */
function featureSql(column: string, value: string): string {
  return `WITH v AS (SELECT period, ${column} AS exact, ${value} AS value FROM report_rows),
      values_by_size AS (SELECT value, row_number() OVER (ORDER BY count(*) DESC, value) AS place FROM v GROUP BY value),
      cells AS (SELECT period, least(place, ${TIMED_VALUES_MAX + 1}) AS cell, count(*) AS k
        FROM v JOIN values_by_size s ON v.value IS NOT DISTINCT FROM s.value WHERE period IS NOT NULL GROUP BY ALL),
      whole AS (SELECT cell, sum(k) / sum(sum(k)) OVER () AS p FROM cells GROUP BY cell),
      periods AS (SELECT period, sum(k) AS total FROM cells GROUP BY period HAVING sum(k) >= ${PERIOD_ROWS_MIN}),
      drifts AS (SELECT period, (sum(abs(coalesce(k, 0) / total - p)) - sum(sqrt(2 * p * (1 - p) / (pi() * total)))) / 2 AS drift
        FROM periods CROSS JOIN whole LEFT JOIN cells USING (period, cell) GROUP BY period)
    SELECT (SELECT avg(CAST(exact IS NULL AS INTEGER)) FROM v), (SELECT CAST(count(DISTINCT exact) AS DOUBLE) FROM v),
      (SELECT greatest(max(drift), 0) FROM drifts), (SELECT min(period) FROM drifts WHERE drift = (SELECT max(drift) FROM drifts))`;
}

async function unseenShare(
  index: number,
  { feature, dictionaryTable }: FeatureEncoding,
  session: DuckSession,
): Promise<number | null> {
  if (feature.kind !== 'category' || dictionaryTable === null) return null;
  const [found] = await session.row(
    `SELECT avg(CAST(d.value IS NULL AS INTEGER)) FROM report_rows r LEFT JOIN ${dictionaryTable} d ON r.f${index} = d.value
      WHERE r.split = 2 AND r.f${index} IS NOT NULL`,
  );
  return numberOrNull(found);
}

/** Warnings about columns that tell most of the label. */
export function leaksOf({ features }: DataReport): RunEvent[] {
  const leaks = features.filter(({ toldShare }) => (toldShare ?? 0) > LEAKED_SHARE);
  if (leaks.length === 0) return [];
  const named = leaks.map(
    ({ name, toldShare }) => `${name} (${((toldShare ?? 0) * 100).toFixed(0)} %)`,
  );
  return [
    warningEvent(
      'label-leaks',
      `the label can be read from ${named.join(', ')}: a column that is filled after the impression must not be a feature`,
    ),
  ];
}
