/**
 * `prepare` turns logs into a task store. This file runs the steps in order; each is in a file of its own.
 * If a step fails, nothing is left at the store's address or beside it.
 */

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../shared/base/clock.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { noticeEvent, warningEvent, type RunEventSink } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  catalogFileOf,
  COLUMNS_FILE,
  ColumnTypesSchema,
  MANIFEST_FILE,
  STORE_FORMAT_VERSION,
  type StoreManifest,
} from '../../shared/tasks/store-manifest.js';
import { sha256OfFile } from '../../shared/tasks/store-folder.js';
import { encodeTaskCatalog, type CatalogTask } from '../../shared/tasks/task-catalog.js';
import { writeRowFiles, writeStoreFile, type StoreFile } from './row-file-writer.js';
import { dataReportOf, leaksOf, type DataReport } from './data-report.js';
import { withChosenPairs } from './encoded-pairs.js';
import { writeDictionaries, learnEncodings } from './feature-encoding.js';
import { type DuckSession, interruption, shortDuckMessage } from '../logs/duckdb-session.js';
import { findLogFiles, fingerprintOf, type LogFile } from '../logs/log-files.js';
import type { LogColumn } from '../logs/log-columns.js';
import type { RawLogs } from '../logs/log-reading.js';
import { withServedRoles } from '../logs/row-log.js';
import { withDuckSession } from '../logs/work-folder.js';
import {
  divideTasks,
  findKeptRows,
  requireTrainingTasks,
  smallTasksLeftOut,
  type TrunkRows,
  describeKey,
} from './task-division.js';
import {
  collectRejects,
  createAcceptedView,
  placeOfRow,
  rejectedRowsEvents,
  REJECTS_FILE,
  writeRejects,
} from './rejected-rows.js';
import { assembleRows, type AssemblyPlan } from './row-assembly.js';
import {
  judgeLogs,
  taskColumnsOf,
  labelsThatNeverDiffer,
  learnTaskLabels,
  rowLabelsOf,
} from './row-judgement.js';
import { openStoreTarget } from './store-target.js';
import { learnTargetEncodings, writeTargetEncodings } from './target-encodings.js';
import { literal } from '../logs/sql.js';

type TaskDivision = Awaited<ReturnType<typeof divideTasks>>;

type StoreTarget = Awaited<ReturnType<typeof openStoreTarget>>;

export interface PrepareOptions {
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
  readonly objectStoreOf: (address: string) => ObjectStore;
  /** A folder with space for about the size of the logs. */
  readonly temporaryFolder: string;
  /** Has logs that were fetched or decompressed already, and takes others; the temporary folder of the call if absent. */
  readonly logsFolder?: string | undefined;
  /** Writes the store again even if the existing one is of the same logs and config. */
  readonly force?: boolean;
  /** Writes what belongs to a new store. If it fails, there is none. */
  readonly beforePublishing?: (prepared: PreparedTaskStore) => Promise<unknown>;
}

/** Columns of the row files that are not features. */
const RESERVED_NAMES = new Set(['row', 'role', 'time', 'clicks', 'impressions', 'oracle']);

interface PreparedTaskStore {
  /** That of the store at `data.store`. */
  readonly manifest: StoreManifest;
  /** Null if the store was kept. */
  readonly report: DataReport | null;
}

/** @throws QianmoError of kind `usage`, `data`, `environment` or `interrupted`. */
export async function prepareTaskStore(
  config: RunConfig,
  options: PrepareOptions,
): Promise<PreparedTaskStore> {
  return inWorkplace('prepare', config, options, (place) => prepareInto(place, config, options));
}

/** The places that `prepare` works in. */
export interface Workplace {
  readonly target: StoreTarget;
  readonly session: DuckSession;
  readonly folder: string;
}

/** Opens the target and DuckDB for the work, and discards what it did not publish. */
export function inWorkplace<Result>(
  kind: 'prepare' | 'append',
  config: RunConfig,
  options: PrepareOptions,
  work: (place: Workplace) => Promise<Result>,
): Promise<Result> {
  return inSession(kind, config, options, async (session, folder) => {
    const target = await openStoreTarget(config.data.store, options.objectStoreOf, folder);
    try {
      return await work({ target, session, folder });
    } finally {
      await target.discard();
    }
  });
}

/** Opens DuckDB within the memory that the config gives it. Failures of DuckDB are those of the logs. */
export async function inSession<Result>(
  kind: 'prepare' | 'append',
  { data: { memoryMiBMax } }: RunConfig,
  options: Pick<PrepareOptions, 'temporaryFolder' | 'signal'>,
  work: (session: DuckSession, folder: string) => Promise<Result>,
): Promise<Result> {
  try {
    return await withDuckSession(kind, { ...options, memoryMiBMax }, work);
  } catch (cause) {
    if (options.signal.aborted) throw interruption();
    throw prepareFailure(cause);
  }
}

async function prepareInto(
  { target, session, folder }: Workplace,
  config: RunConfig,
  options: PrepareOptions,
): Promise<PreparedTaskStore> {
  const { sink, clock, objectStoreOf } = options;
  const startedMs = clock.monotonicMs();
  const source = { session, objectStoreOf, temporaryFolder: options.logsFolder ?? folder };
  const files = await findLogFiles(config.data, source);
  // Before the rows are read: a log that grows meanwhile then has another digest at the next prepare.
  const sourceDigest = await sourceDigestOf(config, files, options.signal);
  const present = options.force === true ? null : await target.present();
  if (present?.sourceDigest === sourceDigest) {
    const text = `the task store at ${config.data.store} was already prepared from these logs: kept`;
    sink(noticeEvent('store-kept', text));
    return { manifest: present, report: null };
  }
  const { logs, rejects, division, placeOf } = await divideLogs(config, files, session, sink);
  requireTrainingTasks(config, division);
  await writeRejects(target.workFolder, rejects, files);
  await writeColumnTypes(target.workFolder, logs.columns, session);
  const placedBySplitFile = config.data.splitFile !== undefined;
  const { trunk } = division;
  const keptRows = await findKeptRows(config, placedBySplitFile, placeOf, session);
  const rowLabels = rowLabelsOf(config.data);
  const labels = await learnTaskLabels(rowLabels, session);
  for (const label of await labelsThatNeverDiffer(rowLabels, session)) sink(label);
  const ofData = await learnEncodings(config.data, session, sink);
  const known = { config, encodings: ofData, labels, hasTrunkRows: trunk !== null };
  const dataReport = await dataReportOf(known, session);
  const paired = await withChosenPairs({ ...known, report: dataReport }, session);
  const ofTargets = await learnTargetEncodings({ ...known, config: paired }, session);
  const encodings = [...ofData, ...ofTargets];
  const plan = { config: paired, encodings, labels, placedBySplitFile, keptRows, trunk };

  const written = await writeStore(target.workFolder, plan, options, session);
  const counts = countsOf(written.catalog);
  const manifest: StoreManifest = {
    formatVersion: STORE_FORMAT_VERSION,
    sourceDigest,
    features: encodings.map(({ feature }) => feature),
    taskColumns: [...taskColumnsOf(config.data)],
    ...(labels === null ? {} : { labels }),
    hasOracle: config.evaluation.oracleColumn !== undefined,
    ...counts,
    ...(trunk === null ? {} : { trunk }),
    rejectedRowCount: rejects.length,
    leftOut: leftOutOf(division, {
      logs: logs.rowCount,
      refused: rejects.filter(({ row }) => row !== null).length,
      ofTasks: await rowCountOfTasks(session),
      stored: counts.rowCount - (trunk?.rowCount ?? 0),
    }),
    ...rowFilesOf(files),
    files: written.files,
  };
  await writeJson(target.workFolder, MANIFEST_FILE, manifest);
  if (options.signal.aborted) throw interruption();
  await options.beforePublishing?.({ manifest, report: dataReport });
  await target.publish(manifest);
  const prepared = { manifest, division, rejects, config };
  report(prepared, logs, clock.monotonicMs() - startedMs, sink);
  for (const leak of leaksOf(dataReport)) sink(leak);
  return { manifest, report: dataReport };
}

function rowFilesOf(files: readonly LogFile[]): Pick<StoreManifest, 'rowFiles'> {
  const rowFiles = files.flatMap(({ served }) => served?.digests ?? []);
  return rowFiles.length === 0 ? {} : { rowFiles };
}

interface DividedLogs {
  readonly logs: RawLogs;
  readonly rejects: Awaited<ReturnType<typeof collectRejects>>;
  readonly division: TaskDivision;
  /** The place of a row, for messages. */
  readonly placeOf: (row: number) => string;
}

/** Reads and judges the rows, and divides the accepted ones into tasks. */
export async function divideLogs(
  config: RunConfig,
  files: readonly LogFile[],
  session: DuckSession,
  sink: RunEventSink,
): Promise<DividedLogs> {
  const { splitFile, rejectedRowsMax } = config.data;
  requireFeatureNames(config);
  const logs = await judgeLogs(withServedRoles(config, files), files, session, sink);
  const rejects = await collectRejects(files, logs, rejectedRowsMax, session);
  await createAcceptedView(rejects, session);
  if (splitFile !== undefined) await readSplitFile(splitFile, logs, session);
  const placeOf = (row: number): string => placeOfRow(row, logs, files);
  const division = await divideTasks(config, splitFile !== undefined, placeOf, session);
  return { logs, rejects, division, placeOf };
}

export async function writeJson(folder: string, name: string, value: object): Promise<void> {
  await writeStoreFile(folder, name, `${JSON.stringify(value, null, 2)}\n`);
}

async function writeStore(
  folder: string,
  plan: AssemblyPlan,
  { sink, signal }: PrepareOptions,
  session: DuckSession,
): Promise<{ catalog: CatalogTask[]; files: StoreFile[] }> {
  const { config, encodings } = plan;
  const dictionaries = await writeDictionaries(folder, encodings, session);
  const targetEncodings = await writeTargetEncodings(folder, config, session);
  const { result: catalog, files: rows } = await writeRowFiles(
    folder,
    encodings.map(({ feature }) => feature),
    { hasOracle: config.evaluation.oracleColumn !== undefined },
    (writer) => assembleRows(plan, session, writer, { sink, signal }),
  );
  await writeStoreFile(folder, catalogFileOf(), encodeTaskCatalog(catalog, catalog));
  const others: StoreFile[] = [];
  for (const name of [catalogFileOf(), REJECTS_FILE, COLUMNS_FILE])
    others.push(await storeFileOf(folder, name));
  return { catalog, files: [...rows, ...dictionaries, ...targetEncodings, ...others] };
}

export async function storeFileOf(folder: string, name: string): Promise<StoreFile> {
  const path = join(folder, name);
  return { name, byteCount: (await stat(path)).size, sha256: await sha256OfFile(path) };
}

function requireFeatureNames(config: RunConfig): void {
  for (const [index, feature] of config.data.features.entries())
    if (RESERVED_NAMES.has(feature.name))
      throw new QianmoError({
        kind: 'usage',
        what: `"${feature.name}" cannot name a feature: the task store has a column of that name`,
        where: `data.features.${index}.name`,
        expected: `a name other than ${[...RESERVED_NAMES].join(', ')}`,
        cure: `choose another name and write column: ${feature.column ?? feature.name}`,
      });
}

/** The inputs that decide the content of the store, without the paths of logs and store. */
async function sourceDigestOf(
  config: RunConfig,
  files: readonly LogFile[],
  signal: AbortSignal,
): Promise<string> {
  const { logs: _logs, store: _store, memoryMiBMax: _memory, splitFile, ...data } = config.data;
  const fingerprints: string[] = [];
  for (const file of files) fingerprints.push(await fingerprintOf(file, signal));
  const split =
    splitFile === undefined
      ? null
      : await fingerprintOf(
          { path: splitFile, name: `data.splitFile: ${splitFile}` },
          signal,
          'reading the split file',
        );
  const content = {
    formatVersion: STORE_FORMAT_VERSION,
    data,
    seed: config.seed,
    oracleColumn: config.evaluation.oracleColumn ?? null,
    formats: files.map((file) => file.format),
    fingerprints,
    split,
  };
  return createHash('sha256').update(canonicalJson(content)).digest('hex');
}

/** Adgroups, and the rows of the whole catalog. */
export function countsOf(
  catalog: readonly Pick<CatalogTask, 'split' | 'supportRowCount' | 'queryRowCount'>[],
): Pick<StoreManifest, 'taskCount' | 'taskCountBySplit' | 'rowCount'> {
  const taskCountBySplit = { train: 0, validation: 0, test: 0 };
  let rowCount = 0;
  for (const { split, supportRowCount, queryRowCount } of catalog) {
    if (split !== 'trunk') taskCountBySplit[split] += 1;
    rowCount += supportRowCount + queryRowCount;
  }
  const { train, validation, test } = taskCountBySplit;
  return { taskCount: train + validation + test, taskCountBySplit, rowCount };
}

async function rowCountOfTasks(session: DuckSession): Promise<number> {
  const [count] = await session.row('SELECT CAST(sum(rows) AS DOUBLE) FROM tasks');
  return Number(count);
}

/** Numbers of rows on their way from the logs to the store. */
interface RowCounts {
  readonly logs: number;
  /** Rows that are rejected. Lines that are not rows are not among them. */
  readonly refused: number;
  /** Rows of the tasks in the store, before the caps. */
  readonly ofTasks: number;
  /** Rows of the tasks in the store. */
  readonly stored: number;
}

function leftOutOf(division: TaskDivision, rows: RowCounts): NonNullable<StoreManifest['leftOut']> {
  const { tooSmall, trunk, unplacedRowCount } = division;
  const accepted = rows.ofTasks + (trunk?.rowCount ?? 0) + tooSmall.rowCount + unplacedRowCount;
  return {
    filteredRowCount: rows.logs - rows.refused - accepted,
    tooSmallTaskCount: tooSmall.taskCount,
    tooSmallRowCount: tooSmall.rowCount,
    cappedRowCount: rows.ofTasks - rows.stored,
    unplacedRowCount,
  };
}

interface Prepared {
  readonly manifest: StoreManifest;
  readonly division: TaskDivision;
  readonly rejects: Parameters<typeof rejectedRowsEvents>[0];
  readonly config: RunConfig;
}

function report(
  { manifest, division: { tooSmall, trunk }, rejects, config }: Prepared,
  logs: RawLogs,
  durationMs: number,
  sink: RunEventSink,
): void {
  const { taskCount, taskCountBySplit, rowCount } = manifest;
  sink({
    kind: 'store-prepared',
    ...{ taskCount, taskCountBySplit, rowCount, logRowCount: logs.rowCount, durationMs },
  });
  if (trunk !== null) sink(noticeEvent('trunk-rows', trunkSentence(trunk)));
  if (tooSmall.taskCount > 0) sink(smallTasksLeftOut(tooSmall, config));
  const { time, rowSplit, splitFile } = config.data;
  if (time !== undefined && rowSplit.by === 'hash' && splitFile === undefined)
    sink(
      noticeEvent(
        'rows-divided-at-random',
        'rows of an adgroup are divided into support and query rows at random, not by data.time, since data.rowSplit.by is hash; ' +
          'with rowSplit: { by: time } the earlier ones are support rows, as when serving, and qianmo refresh can append logs',
      ),
    );
  for (const event of rejectedRowsEvents(rejects, REJECTS_FILE)) sink(event);
  for (const part of ['validation', 'test'] as const)
    if (taskCountBySplit[part] === 0)
      sink(warningEvent('split-empty', `no task is held out for ${part}`));
}

function trunkSentence({ rowCount, smallTaskCount, smallTaskRowCount }: TrunkRows): string {
  const named = rowCount - smallTaskRowCount;
  const small = counted(smallTaskCount, 'training task');
  const parts = [
    ...(smallTaskCount === 0 ? [] : [`${smallTaskRowCount} of ${small} that are too small`]),
    ...(named === 0 ? [] : [`${named} that the split file names train`]),
  ];
  return `${counted(rowCount, 'row')} train the trunk only: ${parts.join(', ')}`;
}

function prepareFailure(cause: unknown): unknown {
  if (cause instanceof QianmoError) return cause;
  if (!(cause instanceof Error) || !/^[A-Z][A-Za-z -]*Error: /.test(cause.message)) return cause;
  return errorOf('data', 'the logs cannot be prepared', {
    where: 'data',
    found: shortDuckMessage(cause),
    cure: 'check that the logs contain what the config says',
    cause,
  });
}

/**
 * Writes the types of the columns that the config names, as the logs gave or prepare inferred them.
 *
 * @param session in which the view `typed_logs` is. It holds the columns that expressions name.
 */
async function writeColumnTypes(
  folder: string,
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<void> {
  const described = await session.rows(
    'SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM typed_logs)',
  );
  const typeByName = new Map(described.map(([name, type]) => [String(name), String(type)]));
  const types = ColumnTypesSchema.parse(
    Object.fromEntries(
      columns.map(({ name, type }) => {
        if (type !== null) return [name, { log: 'typed', type }];
        const inferred = typeByName.get(name);
        return [name, { log: 'text', ...(inferred === undefined ? {} : { inferred }) }];
      }),
    ),
  );
  await writeJson(folder, COLUMNS_FILE, types);
}

const TRUNK_ROLE = 'train';
const TASK_ROLES = ['train', 'validation', 'test'].flatMap((split) => [
  `${split}-support`,
  `${split}-query`,
]);
const ROLES = [...TASK_ROLES, TRUNK_ROLE];

/** @throws QianmoError of kind `data` if the file does not fit the logs. */
async function readSplitFile(path: string, logs: RawLogs, session: DuckSession): Promise<void> {
  await stat(path).catch((cause: unknown) => {
    throw systemFailure(cause, 'reading the split file', `data.splitFile: ${path}`);
  });
  const scan = /\.(parquet|pq)$/i.test(path)
    ? `read_parquet(${literal(path)})`
    : `read_csv(${literal(path)}, header = true, all_varchar = true)`;
  try {
    await session.run(
      `CREATE TABLE split_file AS SELECT TRY_CAST(row AS BIGINT) AS row,
        replace(CAST(task AS VARCHAR), '|', chr(31)) AS task, CAST(role AS VARCHAR) AS role,
        CAST(row AS VARCHAR) AS row_text FROM ${scan}`,
    );
  } catch (cause) {
    if (cause instanceof QianmoError) throw cause;
    throw misfit(path, 'columns row, task and role', shortDuckMessage(cause));
  }
  await checkSplitFile(path, logs, session);
  const place = `list_position([${TASK_ROLES.map(literal).join(', ')}], role) - 1`;
  const isTrunk = `role = ${literal(TRUNK_ROLE)}`;
  await session.run(
    `CREATE TABLE placed AS SELECT row,
      CAST(CASE WHEN ${isTrunk} THEN 0 ELSE floor((${place}) / 2) END AS INTEGER) AS split,
      CAST(CASE WHEN ${isTrunk} THEN 2 ELSE (${place}) % 2 END AS INTEGER) AS role FROM split_file`,
  );
}

async function checkSplitFile(path: string, logs: RawLogs, session: DuckSession): Promise<void> {
  const [badRow] = await session.row(
    `SELECT coalesce(row_text, 'nothing') FROM split_file
      WHERE row IS NULL OR row < 0 OR row >= ${logs.rowCount} LIMIT 1`,
  );
  if (badRow !== undefined)
    throw misfit(path, `rows from 0 to ${logs.rowCount - 1}`, `row ${String(badRow)}`);
  const [badRole, ofRow] = await session.row(
    `SELECT coalesce(role, 'nothing'), row_text FROM split_file
      WHERE role IS NULL OR role NOT IN (${ROLES.map(literal).join(', ')}) ORDER BY row LIMIT 1`,
  );
  if (badRole !== undefined)
    throw misfit(
      path,
      `a role of ${ROLES.join(', ')}`,
      `"${String(badRole)}" for row ${String(ofRow)}`,
    );
  const [repeated] = await session.row(
    'SELECT CAST(row AS VARCHAR) FROM split_file GROUP BY row HAVING count(*) > 1 ORDER BY row LIMIT 1',
  );
  if (repeated !== undefined)
    throw misfit(path, 'each row once', `row ${String(repeated)} more than once`);
  const [row, named, found] = await session.row(
    `SELECT CAST(s.row AS VARCHAR), coalesce(s.task, ''), j.key
      FROM split_file s JOIN judged j ON s.row = j.row
      WHERE s.task IS DISTINCT FROM replace(j.key, '|', chr(31)) ORDER BY s.row LIMIT 1`,
  );
  if (row !== undefined)
    throw misfit(
      path,
      `task ${describeKey(String(found))} for row ${String(row)}, as in the logs`,
      `task ${describeKey(String(named))}`,
    );
}

function misfit(path: string, expected: string, found: string): QianmoError {
  return errorOf('data', 'the split file does not fit the logs', {
    where: path,
    expected,
    found,
    cure: 'write the split file from the same logs, read in the order of their sorted paths',
  });
}
