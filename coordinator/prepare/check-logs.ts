/** Reads the first rows of the logs as `prepare` would, and says what would become of them. Writes no store. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { findLogFiles, type LogFile } from '../logs/log-files.js';
import { linesOf, parquetScan, unreadableLog } from '../logs/log-columns.js';
import { literal } from '../logs/sql.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { divideLogs, inSession, type PrepareOptions } from './prepare.js';
import { rejectsByReason } from './rejected-rows.js';
import { labelsThatNeverDiffer, rowLabelsOf } from './row-judgement.js';
import type { StoreManifest } from '../../shared/tasks/store-manifest.js';
import { requireTrainingTasks, smallTasksLeftOut } from './task-division.js';

/** The tasks and rejects that `prepare` would make of the rows read so far. */
export interface CheckedLogs {
  readonly files: readonly string[];
  /** True if these are all rows of the logs. Otherwise they are the first ones, and all counts are theirs. */
  readonly isWhole: boolean;
  readonly rowCount: number;
  readonly rejected: ReturnType<typeof rejectsByReason>;
  /** Null where a split file divides rows that were not all read. */
  readonly division: CheckedDivision | null;
  /** Sentences about rows from which nothing can be learned, and adgroups that are left out. */
  readonly remarks: readonly string[];
}

interface CheckedDivision {
  readonly taskCount: number;
  readonly taskCountBySplit: StoreManifest['taskCountBySplit'];
  readonly supportRowCount: number;
  readonly queryRowCount: number;
  /** Rows that are of no task and train the shared parameters. */
  readonly trunkRowCount: number;
}

const ROWS_MAX = 50_000;
const FILES_MAX = 8;

type CheckOptions = Pick<PrepareOptions, 'sink' | 'signal' | 'objectStoreOf' | 'temporaryFolder'>;

/** @throws QianmoError as `prepare` does, but for the number of adgroups where not all rows were read. */
export function checkLogs(config: RunConfig, options: CheckOptions): Promise<CheckedLogs> {
  return inSession('prepare', config, options, async (session, folder) => {
    const source = { session, temporaryFolder: folder, objectStoreOf: options.objectStoreOf };
    const found = await findLogFiles(config.data, { ...source, fileCountMax: FILES_MAX + 1 });
    const first = await firstRowsOf(found, folder, session);
    return checkRows(config, first, session, options.sink);
  });
}

interface FirstRows {
  readonly files: readonly LogFile[];
  readonly isWhole: boolean;
}

async function firstRowsOf(
  found: readonly LogFile[],
  folder: string,
  session: DuckSession,
): Promise<FirstRows> {
  const files: LogFile[] = [];
  let rowCountLeft = ROWS_MAX;
  for (const [index, file] of found.slice(0, FILES_MAX).entries()) {
    if (rowCountLeft <= 0) return { files, isWhole: false };
    const prefix = await prefixOf(file, rowCountLeft, { folder, index }, session);
    files.push(prefix.file);
    if (!prefix.isWhole) return { files, isWhole: false };
    rowCountLeft -= prefix.rowCountMax;
  }
  return { files, isWhole: found.length <= FILES_MAX };
}

/** Where a prefix of the file may be written, as the only file of this index. */
interface PrefixPlace {
  readonly folder: string;
  readonly index: number;
}

/**
 * Returns the file itself if it has no more rows. Lines keep their numbers, and the file its name.
 *
 * @throws QianmoError of kind `data` if the first rows cannot be read.
 */
async function prefixOf(
  file: LogFile,
  rowCountMax: number,
  { folder, index }: PrefixPlace,
  session: DuckSession,
): Promise<{ readonly file: LogFile; readonly isWhole: boolean; readonly rowCountMax: number }> {
  const path = join(folder, `prefix-${index}`);
  try {
    if (file.format === 'parquet') {
      const rowCount = await session.count(parquetScan(file));
      if (rowCount <= rowCountMax) return { file, isWhole: true, rowCountMax: rowCount };
      await session.run(
        `COPY (SELECT * FROM ${parquetScan(file)} LIMIT ${rowCountMax}) TO ${literal(path)} (FORMAT parquet)`,
      );
      return { file: { ...file, path }, isWhole: false, rowCountMax };
    }
    const headerCount = file.format === 'jsonl' ? 0 : 1;
    const lineCountMax = rowCountMax + headerCount;
    const cells = await session.rows(`SELECT line FROM ${linesOf(file)} LIMIT ${lineCountMax + 1}`);
    if (cells.length <= lineCountMax)
      return { file, isWhole: true, rowCountMax: Math.max(0, cells.length - headerCount) };
    const lines = cells.slice(0, lineCountMax).map(([line]) => `${String(line ?? '')}\n`);
    const text = (headerCount === 0 ? lines : withClosedQuotes(lines)).join('');
    await writeFile(path, text);
    const prefix = { ...file, path, byteCount: Buffer.byteLength(text) };
    return { file: prefix, isWhole: false, rowCountMax };
  } catch (cause) {
    throw unreadableLog(file, cause);
  }
}

/** The lines up to the last one after which no quote is open: a text may hold ends of lines. */
function withClosedQuotes(lines: readonly string[]): readonly string[] {
  let isOpen = false;
  let end = lines.length;
  for (const [place, line] of lines.entries()) {
    if ((line.split('"').length - 1) % 2 === 1) isOpen = !isOpen;
    if (!isOpen) end = place + 1;
  }
  return lines.slice(0, end);
}

async function checkRows(
  config: RunConfig,
  { files, isWhole }: FirstRows,
  session: DuckSession,
  sink: RunEventSink,
): Promise<CheckedLogs> {
  const { splitFile, taskSplit } = config.data;
  // A split file names rows by their place in all logs, and a cut in time may lie after the first rows.
  const ofFirst = { splitFile: undefined, taskSplit: { ...taskSplit, trainUntil: undefined } };
  const readable = isWhole ? config : { ...config, data: { ...config.data, ...ofFirst } };
  const { logs, rejects, division } = await divideLogs(readable, files, session, sink);
  if (isWhole) requireTrainingTasks(config, division);
  const never =
    division.trainTaskCount === 0
      ? []
      : await labelsThatNeverDiffer(rowLabelsOf(config.data), session);
  const small =
    division.tooSmall.taskCount === 0 ? [] : [smallTasksLeftOut(division.tooSmall, config)];
  return {
    files: files.map(({ name }) => name),
    isWhole,
    rowCount: logs.rowCount,
    rejected: rejectsByReason(rejects),
    division:
      splitFile !== undefined && !isWhole
        ? null
        : { ...(await divisionOf(session)), trunkRowCount: division.trunk?.rowCount ?? 0 },
    remarks: [...never, ...small].flatMap((event) => ('text' in event ? [event.text] : [])),
  };
}

async function divisionOf(session: DuckSession): Promise<Omit<CheckedDivision, 'trunkRowCount'>> {
  const inSplit = (split: number): string => `CAST(count(*) FILTER (split = ${split}) AS DOUBLE)`;
  const [train = 0, validation = 0, test = 0, supportRowCount = 0, queryRowCount = 0] = (
    await session.row(
      `SELECT ${[0, 1, 2].map(inSplit).join(', ')}, CAST(coalesce(sum(support), 0) AS DOUBLE),
        CAST(coalesce(sum(query), 0) AS DOUBLE) FROM tasks`,
    )
  ).map(Number);
  return {
    taskCount: train + validation + test,
    taskCountBySplit: { train, validation, test },
    ...{ supportRowCount, queryRowCount },
  };
}
