/** Reads the first rows of the logs as `prepare` would, and says what would become of them. Writes no store. */

import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { findLogFiles, type LogFile } from '../logs/log-files.js';
import { prefixOf } from '../logs/log-prefix.js';
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
