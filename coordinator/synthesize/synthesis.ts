/** The options and the report of a synthesis. */

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
  /** Generating threads, by default one per core. The bytes do not depend on their number. */
  readonly threadCount?: number;
  /** The compiled chunk-worker.ts; by default the one beside chunk-pool.ts. */
  readonly threadEntry?: URL;
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
