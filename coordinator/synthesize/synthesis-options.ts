/** The options of a synthesis with their bounds, and its report. */

import { QianmoError } from '../../shared/base/errors.js';
import type { Clock } from '../../shared/base/clock.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

/** How far adgroups deviate from what their attributes explain: s = 0, 0.5 and 1. */
export const WORLD_SETTINGS = ['homogeneous', 'moderate', 'strong'] as const;
export type WorldSetting = (typeof WORLD_SETTINGS)[number];

export const LOG_FORMATS = ['csv', 'csv.gz', 'parquet'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** The options that decide the log. The same world gives the same bytes of CSV. */
export interface WorldOptions {
  readonly rows: number;
  readonly setting: WorldSetting;
  /** Mean of the true click probabilities over all rows, in (0, 1). */
  readonly meanClickRate: number;
  readonly seed: number;
  /** By default one adgroup per 95 rows, at most a million. */
  readonly adgroupCount?: number;
  /** By default one user per 10 rows, at most a million. */
  readonly userCount?: number;
}

export interface SynthesisOptions extends WorldOptions {
  readonly path: string;
  readonly format: LogFormat;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
}

export interface SynthesisReport {
  readonly path: string;
  /** The JSON file beside the log: the world's parameters and this report. */
  readonly worldPath: string;
  readonly rows: number;
  readonly adgroupCount: number;
  readonly userCount: number;
  readonly clickCount: number;
  readonly meanTrueClickRate: number;
  /** Mean logloss of p_true against the clicks drawn, in nats. */
  readonly oracleLogloss: number;
  /** Its expectation: the mean entropy of p_true. */
  readonly oracleEntropy: number;
  /** Mean logloss of the log's own click rate, predicted for every row. */
  readonly constantLogloss: number;
  readonly byteCount: number;
  readonly durationMs: number;
  readonly rowsPerSecond: number;
}

interface WorldSize {
  readonly adgroupCount: number;
  readonly userCount: number;
}

export function worldSize(options: WorldOptions): WorldSize {
  return {
    adgroupCount:
      options.adgroupCount ?? Math.min(1_000_000, Math.max(1, Math.round(options.rows / 95))),
    userCount:
      options.userCount ?? Math.min(1_000_000, Math.max(100, Math.round(options.rows / 10))),
  };
}

export const ROW_COUNT_MAX = 10_000_000_000;

const MULTIPLIERS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, b: 1e9 };

/**
 * `250`, `1_000_000`, `760k`, `10M`, `1.5M`, `2G` (or `2B`) as a whole number of rows; decimal
 * multiples.
 * @throws QianmoError of kind `usage`
 */
export function parseRowCount(text: string): number {
  const match = /^(\d[\d_]*(?:\.\d+)?)([kmgb]?)$/i.exec(text.trim());
  const digits = match?.[1]?.replaceAll('_', '') ?? '';
  const multiplier = MULTIPLIERS[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN;
  const exact = digits === '' ? Number.NaN : Number(digits) * multiplier;
  // 1.1 * 1e6 is 1100000.0000000001 in binary: only a real fraction of a row is refused.
  const rows = Math.round(exact);
  if (Number.isNaN(exact) || Math.abs(exact - rows) > 1e-6 || rows < 1 || rows > ROW_COUNT_MAX)
    throw new QianmoError({
      kind: 'usage',
      what: 'the number of rows cannot be read',
      expected: `a whole number from 1 to ${ROW_COUNT_MAX}, as in 250, 760k, 10M or 2G`,
      found: JSON.stringify(text),
      cure: 'for example: --rows 10M',
    });
  return rows;
}

const ADGROUP_COUNT_MAX = 10_000_000;
/** User ids are written with at most seven digits. */
const USER_COUNT_MAX = 10_000_000;

/** @throws QianmoError of kind `usage` at the first option out of its bounds */
export function checkWorldOptions(options: WorldOptions): void {
  const { adgroupCount, userCount } = worldSize(options);
  checkWhole('rows', options.rows, 1, ROW_COUNT_MAX);
  checkWhole('seed', options.seed, 0, Number.MAX_SAFE_INTEGER);
  checkWhole('number of adgroups', adgroupCount, 1, ADGROUP_COUNT_MAX);
  checkWhole('number of users', userCount, 1, USER_COUNT_MAX);
  if (!(options.meanClickRate >= 0.0001 && options.meanClickRate <= 0.9999))
    throw outOfBounds('mean click rate', 'a number from 0.0001 to 0.9999', options.meanClickRate);
}

function checkWhole(name: string, value: number, min: number, max: number): void {
  if (!Number.isSafeInteger(value) || value < min || value > max)
    throw outOfBounds(name, `a whole number from ${min} to ${max}`, value);
}

function outOfBounds(name: string, expected: string, found: number): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: `the ${name} of the synthetic world is out of bounds`,
    expected,
    found: String(found),
    cure: '`qianmo synthesize --help` lists the options',
  });
}
