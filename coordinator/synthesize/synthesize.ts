/** `qianmo synthesize`: writes an advertising log whose true click probabilities are known. */

import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import type { RunCaller } from '../plan/prepared-run.js';
import { openDuckSession } from '../logs/duckdb-session.js';
import { literal } from '../logs/sql.js';
import {
  affinityLogit,
  buildWorld,
  HOUR_COUNT,
  HOURS_PER_DAY,
  hourSlotLogit,
  impressionsOfHour,
  LOG_START_SECONDS,
  PROFILE_FIELDS,
  PROFILES,
  secondsAt,
  solveIntercept,
  WORLD_VERSION,
  worldParameters,
  type SyntheticWorld,
} from './synthetic-world.js';
import type { WorldOptions } from './synthesis-options.js';
import { at, numberAt, uint32At } from '../../shared/base/arrays.js';

const LOG_FORMATS = ['csv', 'csv.gz', 'parquet'] as const;
/** Fast, since the log is large and its digits hardly compress further. */
const GZIP_LEVEL = 1;
const DUCKDB_MEMORY_MIB = 1024;

interface SynthesisOptions extends WorldOptions {
  /** The file to write. */
  readonly out: string;
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

/**
 * Writes the log and, next to it, `<path>.world.json`. Rows are in order of time. The bytes of CSV depend only on the
 * options of the world.
 * @throws QianmoError of kind `usage` (options out of bounds), `environment` (the file system refuses) or `interrupted`;
 *   there is then no new log.
 */
export async function synthesize(
  options: SynthesisOptions,
  { clock, sink, signal }: Pick<RunCaller, 'clock' | 'sink' | 'signal'>,
): Promise<SynthesisReport> {
  const { out: path, rows, setting, clickRate: meanClickRate, seed } = options;
  const format = formatOf(path);
  const startedMs = clock.monotonicMs();
  const world = buildWorld(options);
  const intercept = solveIntercept(world, meanClickRate);
  const sums = {
    ...{ rowCount: 0, clickCount: 0, trueClickRateSum: 0 },
    ...{ oracleLoglossSum: 0, oracleEntropySum: 0 },
  };
  await placeWhole(path, async (unfinished) => {
    const lines = Readable.from(
      linesOf(world, (hour) => {
        if (signal.aborted) throw interruption(path);
        const { text, ...found } = rowsOfHour(world, intercept, hour);
        sums.rowCount += found.rowCount;
        sums.clickCount += found.clickCount;
        sums.trueClickRateSum += found.trueClickRateSum;
        sums.oracleLoglossSum += found.oracleLoglossSum;
        sums.oracleEntropySum += found.oracleEntropySum;
        sink({ kind: 'progress', stage: 'synthesize', done: sums.rowCount, total: rows });
        return text;
      }),
    );
    const csv = format === 'parquet' ? `${unfinished}.csv` : unfinished;
    const gzip = format === 'csv.gz' ? [createGzip({ level: GZIP_LEVEL })] : [];
    try {
      await pipeline([lines, ...gzip, createWriteStream(csv)]);
      if (format === 'parquet')
        await convertToParquet({ csv, columns: columnsOf(world) }, unfinished, signal);
    } finally {
      if (format === 'parquet') await rm(csv, { force: true });
    }
  });
  const durationMs = clock.monotonicMs() - startedMs;
  const clickRate = sums.clickCount / rows;
  const worldPath = `${path}.world.json`;
  const [adgroupCount, userCount] = [world.adgroups.count, world.users.count];
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
      ...{ rows, setting, meanClickRate, seed, adgroupCount, userCount, ...crowdOptions(options) },
    },
    parameters: worldParameters(setting, intercept),
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
    ...{ path, worldPath, rows, adgroupCount, userCount, ...measured },
    ...{ durationMs, rowsPerSecond: (rows / durationMs) * 1000 },
  };
}

function crowdOptions({ crowds, crowdDeviation }: WorldOptions): object {
  return crowds === undefined ? {} : { crowds, crowdDeviation };
}

function* linesOf(world: SyntheticWorld, textOfHour: (hour: number) => string): Generator<string> {
  yield `${columnsOf(world).join(',')}\n`;
  for (let hour = 0; hour < HOUR_COUNT; hour += 1) {
    const text = textOfHour(hour);
    if (text !== '') yield text;
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
async function convertToParquet(
  { csv, columns: names }: { readonly csv: string; readonly columns: readonly string[] },
  parquet: string,
  signal: AbortSignal,
): Promise<void> {
  const types: Readonly<Record<string, string>> = {
    ...{ time: 'BIGINT', price: 'DOUBLE', p_true: 'DOUBLE' },
  };
  const columns = names.map((name) => `${literal(name)}: '${types[name] ?? 'INTEGER'}'`);
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

function formatOf(path: string): (typeof LOG_FORMATS)[number] {
  const format = LOG_FORMATS.find((name) => path.endsWith(`.${name}`));
  if (format !== undefined) return format;
  throw errorOf('usage', 'the output file has no known file ending', {
    where: path,
    expected: LOG_FORMATS.map((name) => `.${name}`).join(', '),
    cure: 'write for example --out runs/log.csv',
  });
}

function interruption(path: string): QianmoError {
  return errorOf('interrupted', 'stopped before the log was complete; no file was left behind', {
    where: path,
    cure: 'run the same command again: the same seed gives the same log',
  });
}

/** Logloss of the constant prediction `rate` on labels whose mean is `rate`, in nats. */
function binaryEntropy(rate: number): number {
  if (rate <= 0 || rate >= 1) return 0;
  return -(rate * Math.log(rate) + (1 - rate) * Math.log(1 - rate));
}

export const CSV_COLUMNS = [
  ...['time', 'user', ...PROFILE_FIELDS.map((field) => field.name), 'adgroup', 'advertiser'],
  ...['campaign', 'category', 'brand', 'price', 'slot', 'hour', 'click', 'p_true'],
];

/** The columns of a world's log: with crowds, that of the user's crowd is the last one. */
export function columnsOf({ users }: SyntheticWorld): readonly string[] {
  return users.crowds === null ? CSV_COLUMNS : [...CSV_COLUMNS, 'crowd'];
}

/** p_true is written with 8 decimals and clicks are drawn from what is written, so it is exact. */
const PROBABILITY_DECIMALS = 8;
const PROBABILITY_UNITS = 10 ** PROBABILITY_DECIMALS;
/** Keeps p away from 0 and 1: it is within [2.3e-6, 1 - 2.3e-6]. */
const LOGIT_MAX = 13;

/** `age,gender,city,shopping,occupation` of each profile, by its code. */
const PROFILE_TEXTS = PROFILES.map((levels) => levels.join(','));

interface HourRows {
  readonly text: string;
  readonly rowCount: number;
  readonly clickCount: number;
  readonly trueClickRateSum: number;
  readonly oracleLoglossSum: number;
  readonly oracleEntropySum: number;
}

/** @param hour since the start of the log */
export function rowsOfHour(world: SyntheticWorld, intercept: number, hour: number): HourRows {
  const { adgroups, users } = world;
  const lines: string[] = [];
  const sums = { clickCount: 0, trueClickRateSum: 0, oracleLoglossSum: 0, oracleEntropySum: 0 };
  for (const { trafficTime, adgroup, user, slot, clickDraw } of impressionsOfHour(world, hour)) {
    const unbounded =
      affinityLogit(world, adgroup, user) + (intercept + hourSlotLogit(world, hour, slot));
    const logit = Math.max(-LOGIT_MAX, Math.min(LOGIT_MAX, unbounded));
    const inverse = 1 + Math.exp(-logit);
    const units = Math.round(PROBABILITY_UNITS / inverse);
    const probability = units / PROBABILITY_UNITS;
    const click = clickDraw < probability ? 1 : 0;
    // -ln p and -ln(1 - p) with one logarithm.
    const lossOfClick = Math.log(inverse);
    const lossOfNone = lossOfClick + logit;
    sums.clickCount += click;
    sums.trueClickRateSum += probability;
    sums.oracleLoglossSum += click === 1 ? lossOfClick : lossOfNone;
    sums.oracleEntropySum += probability * lossOfClick + (1 - probability) * lossOfNone;
    const values: (number | string)[] = [
      LOG_START_SECONDS + secondsAt(trafficTime, hour),
      user,
      at(PROFILE_TEXTS, numberAt(users.profileCodes, user)),
      adgroup,
      uint32At(adgroups.advertisers, adgroup),
      uint32At(adgroups.campaigns, adgroup),
      uint32At(adgroups.categories, adgroup),
      uint32At(adgroups.brands, adgroup),
      (uint32At(adgroups.priceCents, adgroup) / 100).toFixed(2),
      slot,
      hour % HOURS_PER_DAY,
      click,
      `0.${String(units).padStart(PROBABILITY_DECIMALS, '0')}`,
      ...(users.crowds === null ? [] : [uint32At(users.crowds.crowdOfUser, user)]),
    ];
    lines.push(`${values.join(',')}\n`);
  }
  return { text: lines.join(''), rowCount: lines.length, ...sums };
}
