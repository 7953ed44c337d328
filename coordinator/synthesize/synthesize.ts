/** `qianmo synthesize`: writes an advertising log whose true click probabilities are known. */

import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import { openDuckSession } from '../logs/duckdb-session.js';
import { literal } from '../logs/sql.js';
import { solveIntercept } from './click-model.js';
import { CSV_COLUMNS, rowsOfHour, type HourRows } from './log-rows.js';
import {
  checkWorldOptions,
  worldSize,
  type SynthesisOptions,
  type SynthesisReport,
} from './synthesis-options.js';
import { buildWorld } from './synthetic-world.js';
import {
  DAY_COUNT,
  HOUR_COUNT,
  HOURLY_TRAFFIC,
  LATENT_WIDTH,
  LOG_START_SECONDS,
  PROFILE_FIELDS,
  RESPONSE_RANK,
  SETTING_SCALES,
  WORLD_PARAMETERS,
  WORLD_VERSION,
} from './world-parameters.js';

/** Fast, since the log is large and its digits hardly compress further. */
const GZIP_LEVEL = 1;
const DUCKDB_MEMORY_MIB = 1024;

type Sums = Omit<HourRows, 'text'>;

/**
 * Writes the log and, next to it, `<path>.world.json`. Rows are in order of time. The bytes of CSV depend only on the
 * options of the world.
 * @throws QianmoError of kind `usage` (options out of bounds), `environment` (the file system refuses) or `interrupted`;
 *   there is then no new log.
 */
export async function synthesize(options: SynthesisOptions): Promise<SynthesisReport> {
  checkWorldOptions(options);
  const startedMs = options.clock.monotonicMs();
  const world = buildWorld(options);
  const intercept = solveIntercept(world, options.meanClickRate);
  const sums: Sums = {
    ...{ rowCount: 0, clickCount: 0, trueClickRateSum: 0 },
    ...{ oracleLoglossSum: 0, oracleEntropySum: 0 },
  };
  const { path, format, rows } = options;
  await placeWhole(path, async (unfinished) => {
    const lines = Readable.from(
      linesOf(options, (hour) => rowsOfHour(world, intercept, hour), sums),
    );
    const csv = format === 'parquet' ? `${unfinished}.csv` : unfinished;
    const gzip = format === 'csv.gz' ? [createGzip({ level: GZIP_LEVEL })] : [];
    try {
      await pipeline([lines, ...gzip, createWriteStream(csv)]);
      if (format === 'parquet') await convertToParquet(csv, unfinished, options.signal);
    } finally {
      if (format === 'parquet') await rm(csv, { force: true });
    }
  });
  const durationMs = options.clock.monotonicMs() - startedMs;
  const clickRate = sums.clickCount / rows;
  const worldPath = `${path}.world.json`;
  const measured = {
    clickCount: sums.clickCount,
    meanTrueClickRate: sums.trueClickRateSum / rows,
    oracleLogloss: sums.oracleLoglossSum / rows,
    oracleEntropy: sums.oracleEntropySum / rows,
    constantLogloss: binaryEntropy(clickRate),
    byteCount: (await stat(path)).size,
  };
  const record = {
    worldVersion: WORLD_VERSION,
    options: {
      ...{ rows, setting: options.setting, meanClickRate: options.meanClickRate },
      ...{ seed: options.seed, ...worldSize(options) },
    },
    parameters: {
      ownDeviationScale: SETTING_SCALES[options.setting],
      ...{ intercept, latentWidth: LATENT_WIDTH, responseRank: RESPONSE_RANK },
      ...{ dayCount: DAY_COUNT, logStartSeconds: LOG_START_SECONDS },
      ...{ profileFields: PROFILE_FIELDS, hourlyTraffic: HOURLY_TRAFFIC, ...WORLD_PARAMETERS },
    },
    measured: { ...measured, clickRate },
  };
  try {
    const text = `${JSON.stringify(record, null, 2)}\n`;
    await placeWhole(worldPath, (unfinished) => writeFile(unfinished, text));
  } catch (cause) {
    // A log without the record of its world is incomplete.
    await rm(path, { force: true });
    throw cause;
  }
  return {
    ...{ path, worldPath, rows, ...worldSize(options), ...measured },
    ...{ durationMs, rowsPerSecond: (rows / durationMs) * 1000 },
  };
}

function* linesOf(
  { rows, path, sink, signal }: SynthesisOptions,
  rowsOf: (hour: number) => HourRows,
  sums: { -readonly [Name in keyof Sums]: number },
): Generator<string> {
  yield `${CSV_COLUMNS.join(',')}\n`;
  for (let hour = 0; hour < HOUR_COUNT; hour += 1) {
    if (signal.aborted) throw interruption(path);
    const { text, ...found } = rowsOf(hour);
    sums.rowCount += found.rowCount;
    sums.clickCount += found.clickCount;
    sums.trueClickRateSum += found.trueClickRateSum;
    sums.oracleLoglossSum += found.oracleLoglossSum;
    sums.oracleEntropySum += found.oracleEntropySum;
    if (text !== '') yield text;
    sink({ kind: 'progress', stage: 'synthesize', done: sums.rowCount, total: rows });
  }
}

/** Makes a file that appears whole or not at all. */
async function placeWhole(
  path: string,
  write: (unfinished: string) => Promise<void>,
): Promise<void> {
  const unfinished = `${path}.unfinished`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await write(unfinished);
    await rename(unfinished, path);
  } catch (cause) {
    await rm(unfinished, { force: true }).catch(() => undefined);
    throw failureOfSystemError(cause, path) ?? cause;
  }
}

/** Keeps the order of rows. */
async function convertToParquet(csv: string, parquet: string, signal: AbortSignal): Promise<void> {
  const types: Readonly<Record<string, string>> = {
    ...{ time: 'BIGINT', price: 'DOUBLE', p_true: 'DOUBLE' },
  };
  const columns = CSV_COLUMNS.map((name) => `${literal(name)}: '${types[name] ?? 'INTEGER'}'`);
  const session = await openDuckSession(dirname(csv), DUCKDB_MEMORY_MIB, signal);
  try {
    await session.run(
      `COPY (FROM read_csv(${literal(csv)}, header = true, auto_detect = false,
         columns = {${columns.join(', ')}}))
       TO ${literal(parquet)} (FORMAT parquet, COMPRESSION zstd)`,
    );
  } finally {
    session.close();
  }
}

function interruption(path: string): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'stopped before the log was complete; no file was left behind',
    where: path,
    cure: 'run the same command again: the same seed gives the same log',
  });
}

/** Logloss of the constant prediction `rate` on labels whose mean is `rate`, in nats. */
function binaryEntropy(rate: number): number {
  if (rate <= 0 || rate >= 1) return 0;
  return -(rate * Math.log(rate) + (1 - rate) * Math.log(1 - rate));
}
