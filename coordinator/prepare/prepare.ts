/**
 * `prepare` turns logs into a task store. This file runs the steps in order; each is in a file of its own.
 * If a step fails, nothing is left at the store's address or beside it.
 */

import { createHash } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../shared/base/clock.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  CATALOG_FILE,
  COLUMNS_FILE,
  ColumnTypesSchema,
  MANIFEST_FILE,
  STORE_FORMAT_VERSION,
  type StoreManifest,
} from '../../shared/tasks/store-manifest.js';
import { sha256OfFile } from '../../shared/tasks/store-folder.js';
import { encodeTaskCatalog, type CatalogTask } from '../../shared/tasks/task-catalog.js';
import { rowFileWriter, type StoreFile } from './row-file-writer.js';
import { writeDictionaries } from './dictionary-files.js';
import {
  type DuckSession,
  interrupted,
  openDuckSession,
  shortDuckMessage,
} from '../logs/duckdb-session.js';
import { learnEncodings } from './feature-encoding.js';
import { findLogFiles, fingerprintOf, type LogFile } from '../logs/log-files.js';
import type { LogColumn } from '../logs/log-columns.js';
import type { RawLogs } from '../logs/log-reading.js';
import { withWorkFolder } from '../logs/work-folder.js';
import {
  divideTasks,
  findKeptRows,
  smallTasksLeftOut,
  type TaskDivision,
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
import { judgeLogs, taskColumnsOf } from './row-judgement.js';
import { labelsThatNeverDiffer, learnTaskLabels, rowLabelsOf } from './row-labels.js';
import { readSplitFile } from './split-file.js';
import { openStoreTarget, type StoreTarget } from './store-target.js';
import { learnTargetEncodings, writeTargetEncodings } from './target-encodings.js';
import {
  rowsDividedAtRandom,
  splitEmpty,
  storeKept,
  trunkRows,
} from '../../coordinator/prepare/prepare-messages.js';

export interface PrepareOptions {
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
  readonly objectStoreOf: (address: string) => ObjectStore;
  /** A folder with space for about the size of the logs. */
  readonly temporaryFolder: string;
  /** Writes the store again even if the existing one is of the same logs and config. */
  readonly force?: boolean;
}

/** Columns of the row files that are not features. */
const RESERVED_NAMES = new Set(['row', 'role', 'time', 'clicks', 'impressions', 'oracle']);

/**
 * @returns the manifest of the store at `data.store`.
 * @throws QianmoError of kind `usage`, `data`, `environment` or `interrupted`.
 */
export async function prepareTaskStore(
  config: RunConfig,
  options: PrepareOptions,
): Promise<StoreManifest> {
  checkFeatureNames(config);
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
  return withWorkFolder(kind, options.temporaryFolder, async (folder) => {
    let session: DuckSession | null = null;
    let target: StoreTarget | null = null;
    try {
      target = await openStoreTarget(config.data.store, options.objectStoreOf, folder);
      session = await openDuckSession(folder, config.data.memoryMiBMax, options.signal);
      return await work({ target, session, folder });
    } catch (cause) {
      if (options.signal.aborted) throw interrupted();
      throw prepareFailure(cause);
    } finally {
      session?.close();
      await target?.discard();
    }
  });
}

async function prepareInto(
  { target, session, folder }: Workplace,
  config: RunConfig,
  options: PrepareOptions,
): Promise<StoreManifest> {
  const { sink, clock, objectStoreOf } = options;
  const startedMs = clock.monotonicMs();
  const source = { session, objectStoreOf, temporaryFolder: folder };
  const files = await findLogFiles(config.data, source);
  // Before the rows are read: a log that grows meanwhile then has another digest at the next prepare.
  const sourceDigest = await sourceDigestOf(config, files, options.signal);
  const present = options.force === true ? null : await target.present();
  if (present?.sourceDigest === sourceDigest) {
    sink(storeKept(config.data.store));
    return present;
  }
  const logs = await judgeLogs(config, files, session, sink);
  const rejects = await collectRejects(files, logs, config.data.rejectedRowsMax, session);
  await writeRejects(target.workFolder, rejects, files);
  await writeColumnTypes(target.workFolder, logs.columns, session);
  await createAcceptedView(rejects, session);
  if (config.data.splitFile !== undefined)
    await readSplitFile(config.data.splitFile, logs, session);
  const placedBySplitFile = config.data.splitFile !== undefined;
  const placeOf = (row: number): string => placeOfRow(row, logs, files);
  const division = await divideTasks(config, placedBySplitFile, placeOf, session);
  const { trunk } = division;
  const keptRows = await findKeptRows(config, placedBySplitFile, placeOf, session);
  const rowLabels = rowLabelsOf(config.data);
  const labels = await learnTaskLabels(rowLabels, session);
  for (const label of await labelsThatNeverDiffer(rowLabels, session)) sink(label);
  const ofData = await learnEncodings(config.data, session, sink);
  const encodings = [
    ...ofData,
    ...(await learnTargetEncodings(
      { config, encodings: ofData, labels, hasTrunkRows: trunk !== null },
      session,
    )),
  ];
  const plan = { config, encodings, labels, placedBySplitFile, keptRows, trunk };

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
    files: written.files,
  };
  await writeManifest(target.workFolder, manifest);
  if (options.signal.aborted) throw interrupted();
  await target.publish(manifest);
  const prepared = { manifest, division, rejects, config };
  report(prepared, logs, clock.monotonicMs() - startedMs, sink);
  return manifest;
}

async function writeManifest(folder: string, manifest: StoreManifest): Promise<void> {
  const path = join(folder, MANIFEST_FILE);
  await writeFile(path, `${JSON.stringify(manifest, null, 2)}\n`).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing the task store', path);
  });
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
  const writer = rowFileWriter(
    folder,
    encodings.map(({ feature }) => feature),
    config.evaluation.oracleColumn !== undefined,
  );
  let catalog: CatalogTask[];
  let rows: StoreFile[];
  try {
    catalog = await assembleRows(plan, session, writer, { sink, signal });
    rows = await writer.finish();
  } catch (cause) {
    writer.abandon();
    throw cause;
  }
  const path = join(folder, CATALOG_FILE);
  await writeFile(path, encodeTaskCatalog(catalog, catalog)).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing the task store', path);
  });
  const others: StoreFile[] = [];
  for (const name of [CATALOG_FILE, REJECTS_FILE, COLUMNS_FILE])
    others.push(await storeFileOf(folder, name));
  return { catalog, files: [...rows, ...dictionaries, ...targetEncodings, ...others] };
}

export async function storeFileOf(folder: string, name: string): Promise<StoreFile> {
  const path = join(folder, name);
  return { name, byteCount: (await stat(path)).size, sha256: await sha256OfFile(path) };
}

function checkFeatureNames(config: RunConfig): void {
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
  if (trunk !== null) sink(trunkRows(trunk));
  if (tooSmall.taskCount > 0) sink(smallTasksLeftOut(tooSmall, config));
  const { time, rowSplit, splitFile } = config.data;
  if (time !== undefined && rowSplit.by === 'hash' && splitFile === undefined)
    sink(rowsDividedAtRandom());
  for (const event of rejectedRowsEvents(rejects, REJECTS_FILE)) sink(event);
  for (const part of ['validation', 'test'] as const)
    if (taskCountBySplit[part] === 0) sink(splitEmpty(part));
}

function prepareFailure(cause: unknown): unknown {
  if (cause instanceof QianmoError) return cause;
  if (!(cause instanceof Error) || !/^[A-Z][A-Za-z -]*Error: /.test(cause.message)) return cause;
  return new QianmoError({
    kind: 'data',
    what: 'the logs cannot be prepared',
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
  const path = join(folder, COLUMNS_FILE);
  await writeFile(path, `${JSON.stringify(types, null, 2)}\n`).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing the task store', path);
  });
}
