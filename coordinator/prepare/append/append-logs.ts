/**
 * Appends logs to a task store: rows of its tasks and of new ones, and values of dictionaries. Files are added
 * and none is changed; the manifest is replaced last, in one step. So the store is whole at every moment,
 * and whoever has it open goes on reading what it was.
 */

import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import {
  appendNumber,
  catalogFileOf,
  MANIFEST_FILE,
  type StoreManifest,
} from '../../../shared/tasks/store-manifest.js';
import { dictionaryRowCounts } from '../../../shared/tasks/store-versions.js';
import {
  dictionaryFileOf,
  encodeTaskCatalog,
  type CatalogEntry,
  type CatalogTask,
} from '../../../shared/tasks/task-catalog.js';
import type { TaskPlace, TaskStore } from '../../../shared/tasks/task-store.js';
import { interrupted, openDuckSession, type DuckSession } from '../../logs/duckdb-session.js';
import { findLogFiles, fingerprintOf, type LogFile } from '../../logs/log-files.js';
import { withWorkFolder } from '../../logs/work-folder.js';
import type { StoreFile } from '../arrow-file.js';
import { writeDictionary } from '../dictionary-files.js';
import type { FeatureEncoding } from '../feature-encoding.js';
import { countsOf, prepareFailure, storeFileOf, type PrepareOptions } from '../prepare.js';
import { smallTasksLeftOut } from '../task-division.js';
import type { TrunkRows } from '../trunk-rows.js';
import {
  collectRejects,
  createAcceptedView,
  REJECTS_FILE,
  rejectedRowsEvents,
  writeRejects,
} from '../rejected-rows.js';
import { columnKinds } from '../row-assembly.js';
import { rowFileWriter } from '../row-file-writer.js';
import { judgeTexts } from '../row-judgement.js';
import { openStoreTarget, type StoreTarget } from '../store-target.js';
import { appendedTasksOf, type AppendedTasks } from './appended-tasks.js';
import { freshRowsOf } from './fresh-rows.js';
import { grownEncodings } from './grown-dictionaries.js';
import { redivideTasks } from './redivided-tasks.js';
import { logsAppended, logsKnown } from '../../../coordinator/prepare/prepare-messages.js';

export interface AppendedLogs {
  /** Null if all logs were in the store already. */
  readonly append: NonNullable<StoreManifest['appends']>[number] | null;
  readonly knownFileCount: number;
}

interface AppendOptions extends PrepareOptions {
  readonly openStore: () => Promise<TaskStore>;
}

/** @param logs paths, folders, globs or `s3://` addresses. */
export async function appendLogs(
  config: RunConfig,
  logs: readonly string[],
  options: AppendOptions,
): Promise<AppendedLogs> {
  demandAppendable(config);
  return withWorkFolder('append', options.temporaryFolder, (folder) =>
    appendedIn(folder, { ...config, data: { ...config.data, logs: [...logs] } }, options),
  );
}

async function appendedIn(
  folder: string,
  config: RunConfig,
  options: AppendOptions,
): Promise<AppendedLogs> {
  let session: DuckSession | null = null;
  let target: StoreTarget | null = null;
  let store: TaskStore | null = null;
  try {
    target = await openStoreTarget(config.data.store, options.objectStoreOf, folder);
    store = await options.openStore();
    session = await openDuckSession(folder, config.data.memoryMiBMax, options.signal);
    return await appendInto({ target, session, folder, store }, config, options);
  } catch (cause) {
    if (options.signal.aborted) throw interrupted();
    throw prepareFailure(cause);
  } finally {
    session?.close();
    await store?.close();
    await target?.discard();
  }
}

function demandAppendable({ data }: RunConfig): void {
  const refused = (where: string, found: string, cure: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what: 'logs cannot be appended to the store of this config',
      ...{ where, found },
      expected: 'rows that are split by time, and no split file',
      cure: `${cure} and prepare all logs together with --force, then train, evaluate and export again`,
    });
  if (data.splitFile !== undefined)
    throw refused('data.splitFile', data.splitFile, 'name the new rows in the split file');
  if (data.rowSplit.by !== 'time')
    throw refused(
      'data.rowSplit.by',
      data.rowSplit.by,
      'set data.time and data.rowSplit: { by: time }, with which later logs can be appended,',
    );
}

interface Workplace {
  readonly target: StoreTarget;
  readonly session: DuckSession;
  readonly folder: string;
  readonly store: TaskStore;
}

async function appendInto(
  place: Workplace,
  config: RunConfig,
  options: AppendOptions,
): Promise<AppendedLogs> {
  const { target, session, folder, store } = place;
  const { sink, clock, signal, objectStoreOf } = options;
  const startedMs = clock.monotonicMs();
  const found = await findLogFiles(config.data, {
    ...{ session, objectStoreOf, temporaryFolder: folder },
  });
  const { files, logDigests, knownFileCount } = await newFilesOf(found, store.manifest, signal);
  if (files.length === 0) {
    sink(logsKnown(knownFileCount, config.data.store));
    return { append: null, knownFileCount };
  }
  // Dictionaries of a store hold texts.
  const stored = await store.readColumnTypes?.();
  const raw = await judgeTexts(config, { files, stored }, session, sink);
  const rejects = await collectRejects(files, raw, config.data.rejectedRowsMax, session);
  await writeRejects(target.workFolder, rejects, files);
  await createAcceptedView(rejects, session);
  const tasks = await appendedTasksOf(config, store, folder, session);
  const encodings = await grownEncodings(config, store, folder, session);
  const written = await writeAppend(place, { config, encodings, tasks }, signal);
  const [acceptedRowCount] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM accepted');
  const append = {
    earlierDigest: store.digest,
    earlierRowCounts: dictionaryRowCounts(store.manifest),
    ...{ logDigests, firstRow: nextRowOf(store.manifest), logRowCount: raw.rowCount },
    changedTaskCount: tasks.tasks.filter(({ isNew }) => !isNew).length,
    newTaskCount: tasks.tasks.filter(({ isNew }) => isNew).length - (tasks.trunk?.batchCount ?? 0),
  };
  const refusedCount = rejects.filter(({ row }) => row !== null).length;
  const manifest = manifestOf(store.manifest, append, {
    ...{ encodings, tasks, ...written, rejectedRowCount: rejects.length },
    acceptedRowCount: Number(acceptedRowCount),
    filteredRowCount: raw.rowCount - refusedCount - Number(acceptedRowCount),
  });
  const path = join(target.workFolder, MANIFEST_FILE);
  await writeFile(path, `${JSON.stringify(manifest, null, 2)}\n`).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing the task store', path);
  });
  if (signal.aborted) throw interrupted();
  const newFiles = written.files.map(({ name }) => name);
  await target.publishAppended(newFiles, supersededFiles(store.manifest));
  const { changedTaskCount, newTaskCount, logRowCount } = append;
  const durationMs = clock.monotonicMs() - startedMs;
  sink(logsAppended({ changedTaskCount, newTaskCount, logRowCount, durationMs }));
  const rejectsFile = rejectsFileOf(manifest.appends?.length ?? 0);
  for (const event of rejectedRowsEvents(rejects, rejectsFile)) sink(event);
  const { tooSmallTaskCount: taskCount, tooSmallRowCount: rowCount } = tasks;
  if (taskCount > 0) sink(smallTasksLeftOut({ taskCount, rowCount }, config));
  return { append, knownFileCount };
}

/** Files whose content was not appended before. */
async function newFilesOf(
  found: readonly LogFile[],
  { appends = [] }: StoreManifest,
  signal: AbortSignal,
): Promise<{
  readonly files: LogFile[];
  readonly logDigests: string[];
  readonly knownFileCount: number;
}> {
  const known = new Set(appends.flatMap((append) => append.logDigests));
  const files: LogFile[] = [];
  const logDigests: string[] = [];
  for (const file of found) {
    const digest = await fingerprintOf(file, signal);
    if (known.has(digest)) continue;
    known.add(digest);
    files.push(file);
    logDigests.push(digest);
  }
  return { files, logDigests, knownFileCount: found.length - files.length };
}

/** A number that no row of the store has. */
function nextRowOf({ appends = [], rowCount, rejectedRowCount, leftOut }: StoreManifest): number {
  const last = appends.at(-1);
  if (last !== undefined) return last.firstRow + last.logRowCount;
  const {
    filteredRowCount = 0,
    tooSmallRowCount = 0,
    cappedRowCount = 0,
    unplacedRowCount = 0,
  } = leftOut ?? {};
  return (
    rowCount +
    rejectedRowCount +
    filteredRowCount +
    tooSmallRowCount +
    cappedRowCount +
    unplacedRowCount
  );
}

/** All tasks of the store, and their places in the same order. */
interface JoinedCatalog {
  readonly tasks: readonly CatalogEntry[];
  readonly places: readonly TaskPlace[];
}

interface WrittenAppend {
  readonly catalog: JoinedCatalog;
  readonly files: readonly StoreFile[];
}

async function writeAppend(
  { target: { workFolder }, session, store }: Workplace,
  {
    config,
    encodings,
    tasks,
  }: {
    readonly config: RunConfig;
    readonly encodings: readonly FeatureEncoding[];
    readonly tasks: AppendedTasks;
  },
  signal: AbortSignal,
): Promise<WrittenAppend> {
  const { manifest } = store;
  const append = (manifest.appends?.length ?? 0) + 1;
  const labels = manifest.labels ?? null;
  const firstRow = nextRowOf(manifest);
  const fresh = await freshRowsOf({ config, encodings, labels }, firstRow, session, signal);
  const writer = rowFileWriter(
    workFolder,
    encodings.map(({ feature }) => feature),
    manifest.hasOracle,
    { firstFileIndex: manifest.files.filter(({ name }) => /^rows-\d+\.arrow$/.test(name)).length },
  );
  const plan = { config, store, kinds: columnKinds({ config, encodings }), fresh, append };
  let changed: CatalogTask[];
  let rows: StoreFile[];
  try {
    changed = await redivideTasks(plan, tasks.tasks, writer);
    rows = await writer.finish();
  } catch (cause) {
    writer.abandon();
    throw cause;
  }
  const catalog = joinedCatalog(store, tasks, changed);
  const catalogFile = catalogFileOf(append);
  await writeFile(join(workFolder, catalogFile), encodeTaskCatalog(catalog.tasks, catalog.places));
  const rejectsFile = rejectsFileOf(append);
  await rename(join(workFolder, REJECTS_FILE), join(workFolder, rejectsFile));
  const files = [
    ...rows,
    ...(await grownDictionaryFiles({ workFolder, append }, encodings, store, session)),
  ];
  for (const name of [catalogFile, rejectsFile]) files.push(await storeFileOf(workFolder, name));
  return { catalog, files };
}

async function grownDictionaryFiles(
  { workFolder, append }: { readonly workFolder: string; readonly append: number },
  encodings: readonly FeatureEncoding[],
  { manifest }: TaskStore,
  session: DuckSession,
): Promise<StoreFile[]> {
  const before = dictionaryRowCounts(manifest);
  const files: StoreFile[] = [];
  for (const { feature, dictionaryTable: table } of encodings) {
    const firstId = before[feature.name];
    if (table === null || firstId === undefined || feature.kind === 'number') continue;
    if (feature.rowCount === firstId) continue;
    const name = dictionaryFileOf(feature.name, append);
    await mkdir(dirname(join(workFolder, name)), { recursive: true });
    files.push(await writeDictionary(workFolder, { name, table, firstId }, session));
  }
  return files;
}

/** The entries and places of the store, with those of changed and new tasks in their stead and behind. */
function joinedCatalog(
  { tasks: before, places = [] }: TaskStore,
  { tasks }: AppendedTasks,
  changed: readonly CatalogTask[],
): JoinedCatalog {
  if (places.length !== before.length) throw new Error('a task of the store has no place');
  const joined: { tasks: CatalogEntry[]; places: TaskPlace[] } = {
    tasks: [...before],
    places: [...places],
  };
  for (const [place, { taskIndex }] of tasks.entries()) {
    const task = changed[place];
    if (task === undefined) throw new Error(`task ${taskIndex} was not written`);
    joined.tasks[taskIndex] = task;
    joined.places[taskIndex] = task;
  }
  return joined;
}

interface ManifestChanges extends WrittenAppend {
  readonly encodings: readonly FeatureEncoding[];
  readonly tasks: AppendedTasks;
  readonly rejectedRowCount: number;
  readonly acceptedRowCount: number;
  readonly filteredRowCount: number;
}

function manifestOf(
  before: StoreManifest,
  append: NonNullable<AppendedLogs['append']>,
  changes: ManifestChanges,
): StoreManifest {
  const { catalog, files, encodings, tasks, rejectedRowCount } = changes;
  const counts = countsOf(catalog.tasks);
  const { leftOut } = before;
  const largeRowCount = changes.acceptedRowCount - tasks.tooSmallRowCount;
  return {
    ...before,
    features: encodings.map(({ feature }) => feature),
    ...counts,
    ...(tasks.trunk === null ? {} : { trunk: sumOf(before.trunk, tasks.trunk) }),
    rejectedRowCount: before.rejectedRowCount + rejectedRowCount,
    ...(leftOut === undefined
      ? {}
      : {
          leftOut: {
            ...leftOut,
            filteredRowCount: leftOut.filteredRowCount + changes.filteredRowCount,
            tooSmallTaskCount: leftOut.tooSmallTaskCount + tasks.tooSmallTaskCount,
            tooSmallRowCount: leftOut.tooSmallRowCount + tasks.tooSmallRowCount,
            cappedRowCount:
              leftOut.cappedRowCount + before.rowCount + largeRowCount - counts.rowCount,
          },
        }),
    appends: [...(before.appends ?? []), append],
    files: [
      ...before.files.filter(({ name }) => name !== catalogFileOf(before.appends?.length)),
      ...files,
    ],
  };
}

function sumOf(before: TrunkRows | undefined, added: TrunkRows): TrunkRows {
  if (before === undefined) return added;
  return {
    batchCount: before.batchCount + added.batchCount,
    rowCount: before.rowCount + added.rowCount,
    smallTaskCount: before.smallTaskCount + added.smallTaskCount,
    smallTaskRowCount: before.smallTaskRowCount + added.smallTaskRowCount,
  };
}

function rejectsFileOf(append: number): string {
  return `rejects-${appendNumber(append)}.jsonl`;
}

/** Files that neither this store nor the one before it needs. */
function supersededFiles({ appends = [] }: StoreManifest): string[] {
  return appends.length === 0 ? [] : [catalogFileOf(appends.length - 1)];
}
