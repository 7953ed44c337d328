/** `qianmo synthesize`: writes an advertising log whose true click probabilities are known. */

import { rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { QianmoError } from '../../shared/base/errors.js';
import { chunkBoundaries } from './arrivals.js';
import { gzipMember, ROWS_PER_CHUNK } from './chunk-generator.js';
import { generateChunks } from './chunk-pool.js';
import { solveIntercept } from './click-model.js';
import { CSV_COLUMNS, type ChunkSums, type RowSource } from './csv-rows.js';
import { placeWhole, writeAll, writeWhole } from './log-file.js';
import { convertToParquet } from './parquet-log.js';
import { buildWorld, worldSize } from './synthetic-world.js';
import type { SynthesisOptions, SynthesisReport } from './synthesis.js';
import { checkWorldOptions } from './world-limits.js';
import { worldRecord } from './world-record.js';

const STAGE = 'synthesize';

/**
 * Writes the log and, beside it, `<path>.world.json`. Rows are in order of time. The bytes of CSV
 * depend only on the options of the world.
 * @throws QianmoError of kind `usage` (options out of bounds), `environment` (the file system
 *   refuses) or `interrupted`; there is then no new log.
 */
export async function synthesize(options: SynthesisOptions): Promise<SynthesisReport> {
  checkWorldOptions(options);
  const startedMs = options.clock.monotonicMs();
  const world = buildWorld(options);
  const intercept = solveIntercept(world, options.meanClickRate);
  const source: RowSource = { world, intercept };
  const sums =
    options.format === 'parquet'
      ? await writeParquet(options, source)
      : await writeText(options, source, options.path);
  const durationMs = options.clock.monotonicMs() - startedMs;
  const worldPath = `${options.path}.world.json`;
  const rows = sums.rowCount;
  const clickRate = sums.clickCount / rows;
  const report: SynthesisReport = {
    path: options.path,
    worldPath,
    rows,
    ...worldSize(options),
    clickCount: sums.clickCount,
    meanTrueClickRate: sums.trueClickRateSum / rows,
    oracleLogloss: sums.oracleLoglossSum / rows,
    oracleEntropy: sums.oracleEntropySum / rows,
    constantLogloss: binaryEntropy(clickRate),
    byteCount: (await stat(options.path)).size,
    durationMs,
    rowsPerSecond: (rows / durationMs) * 1000,
  };
  const record = `${JSON.stringify(worldRecord(options, intercept, report), null, 2)}\n`;
  try {
    await placeWhole(worldPath, (unfinished) => writeFile(unfinished, record));
  } catch (cause) {
    // A log without the record of its world is incomplete.
    await rm(options.path, { force: true });
    throw cause;
  }
  return report;
}

async function writeText(
  options: SynthesisOptions,
  source: RowSource,
  path: string,
): Promise<ChunkSums> {
  const compress = options.format === 'csv.gz';
  const header = Buffer.from(`${CSV_COLUMNS.join(',')}\n`);
  const chunkCount = Math.max(1, Math.ceil(options.rows / ROWS_PER_CHUNK));
  let total: ChunkSums = {
    rowCount: 0,
    clickCount: 0,
    trueClickRateSum: 0,
    oracleLoglossSum: 0,
    oracleEntropySum: 0,
  };
  await writeWhole(
    path,
    async (file) => {
      await writeAll(file, compress ? gzipMember(header) : header);
      const chunks = generateChunks({
        source,
        boundaries: chunkBoundaries(source.world.adgroups, chunkCount),
        compress,
        threadCount: options.threadCount ?? availableParallelism(),
        ...(options.threadEntry === undefined ? {} : { threadEntry: options.threadEntry }),
      });
      for await (const chunk of chunks) {
        if (options.signal.aborted) throw interruption(options.path);
        await writeAll(file, chunk.bytes);
        total = addSums(total, chunk);
        options.sink({ kind: 'progress', stage: STAGE, done: total.rowCount, total: options.rows });
      }
    },
    options.path,
  );
  return total;
}

/** Goes through a CSV file, which DuckDB reads faster than rows that are passed one by one. */
async function writeParquet(options: SynthesisOptions, source: RowSource): Promise<ChunkSums> {
  const csvPath = `${options.path}.unfinished.csv`;
  try {
    const sums = await writeText(options, source, csvPath);
    await placeWhole(options.path, (unfinished) =>
      convertToParquet(
        csvPath,
        unfinished,
        options.threadCount ?? availableParallelism(),
        options.path,
      ),
    );
    return sums;
  } finally {
    await rm(csvPath, { force: true });
  }
}

function addSums(total: ChunkSums, chunk: ChunkSums): ChunkSums {
  return {
    rowCount: total.rowCount + chunk.rowCount,
    clickCount: total.clickCount + chunk.clickCount,
    trueClickRateSum: total.trueClickRateSum + chunk.trueClickRateSum,
    oracleLoglossSum: total.oracleLoglossSum + chunk.oracleLoglossSum,
    oracleEntropySum: total.oracleEntropySum + chunk.oracleEntropySum,
  };
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
