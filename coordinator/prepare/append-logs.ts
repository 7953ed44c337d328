/**
 * Appends logs to a task store: rows of its tasks and of new ones, and values of dictionaries. Files are added
 * and none is changed; the manifest is replaced last, in one step. So the store is whole at every moment,
 * and whoever has it open goes on reading what it was.
 */

import { mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import {
  appendNumber,
  catalogFileOf,
  dictionaryRowCounts,
  type EncodedFeature,
  MANIFEST_FILE,
  type StoreManifest,
  unseenBucketsOf,
  waitingFileOf,
} from '../../shared/tasks/store-manifest.js';
import {
  type CatalogEntry,
  type CatalogTask,
  dictionaryFileOf,
  encodeTaskCatalog,
} from '../../shared/tasks/task-catalog.js';
import type { TaskPlace, TaskStore } from '../../shared/tasks/task-store.js';
import { type DuckSession, interruption } from '../logs/duckdb-session.js';
import { findLogFiles, fingerprintOf, type LogFile } from '../logs/log-files.js';
import { withServedRoles } from '../logs/row-log.js';
import { writeRowFiles, writeStoreFile, type StoreFile } from './row-file-writer.js';
import {
  writeDictionary,
  dictionaryTableOf,
  encodedAs,
  encodeDistinctBags,
  type FeatureEncoding,
  withFewJoins,
} from './feature-encoding.js';
import {
  countsOf,
  inWorkplace,
  type PrepareOptions,
  storeFileOf,
  writeJson,
  type Workplace,
} from './prepare.js';
import type { TrunkRows } from './task-division.js';
import {
  collectRejects,
  createAcceptedView,
  rejectedRowsEvents,
  REJECTS_FILE,
  writeRejects,
} from './rejected-rows.js';
import { columnKinds } from './row-assembly.js';
import { judgeTexts } from './row-judgement.js';
import {
  appendedTasksOf,
  createWaitingView,
  freshRowsOf,
  redivideTasks,
  waitingTasksEvent,
  writeWaitingRows,
} from './appended-tasks.js';
import { noticeEvent } from '../../shared/events/run-events.js';
import { secondsText, counted } from '../../shared/names/counted.js';
import type { FeatureConfig } from '../../shared/config/data-config.js';
import { csvSource } from '../logs/work-folder.js';
import { loadTargetEncodings } from './target-encodings.js';

type AppendedTasks = Awaited<ReturnType<typeof appendedTasksOf>>;

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
  requireAppendable(config);
  const appended = { ...config, data: { ...config.data, logs: [...logs] } };
  return inWorkplace('append', appended, options, async (place) => {
    const store = await options.openStore();
    try {
      return await appendInto({ ...place, store }, appended, options);
    } finally {
      await store.close();
    }
  });
}

function requireAppendable({ data }: RunConfig): void {
  const refused = (where: string, found: string, cure: string): QianmoError =>
    errorOf('usage', 'logs cannot be appended to the store of this config', {
      ...{ where, found },
      expected: 'rows that are split by time, and neither a split file nor a last time of training',
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
  if (data.taskSplit.trainUntil !== undefined)
    throw refused(
      'data.taskSplit.trainUntil',
      String(data.taskSplit.trainUntil),
      'remove it, or choose a later time,',
    );
}

interface AppendPlace extends Workplace {
  readonly store: TaskStore;
}

async function appendInto(
  place: AppendPlace,
  config: RunConfig,
  options: AppendOptions,
): Promise<AppendedLogs> {
  const { target, session, folder, store } = place;
  const { sink, clock, signal, objectStoreOf } = options;
  const startedMs = clock.monotonicMs();
  const { appends = [], rowFiles = [] } = store.manifest;
  const known = new Set([...rowFiles, ...appends.flatMap((append) => append.logDigests)]);
  const isKnown = (digest: string): boolean => known.has(digest);
  const source = { session, objectStoreOf, temporaryFolder: folder, isKnown };
  const found = await findLogFiles(config.data, source);
  const { files, logDigests, knownFileCount } = await newFilesOf(found, known, signal);
  if (files.length === 0) {
    const text = `${counted(knownFileCount, 'log file')} in the task store at ${config.data.store}`;
    sink(noticeEvent('logs-known', `${text} already: nothing appended`));
    return { append: null, knownFileCount };
  }
  // Dictionaries of a store hold texts.
  const stored = await store.readColumnTypes?.();
  const raw = await judgeTexts(withServedRoles(config, files), { files, stored }, session, sink);
  const rejects = await collectRejects(files, raw, config.data.rejectedRowsMax, session);
  await writeRejects(target.workFolder, rejects, files);
  const firstRow = nextRowOf(store.manifest);
  const waited = await createWaitingView(store, session);
  const alsoSql = waited.rowCount === 0 ? '' : 'UNION ALL BY NAME FROM waiting';
  await createAcceptedView(rejects, session, { firstRow, alsoSql });
  const tasks = await appendedTasksOf(config, store, folder, session);
  const encodings = await grownEncodings(config, store, folder, session);
  const written = await writeAppend(place, { config, encodings, tasks }, signal);
  const [acceptedRowCount] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM accepted');
  const append = {
    earlierDigest: store.digest,
    earlierRowCounts: dictionaryRowCounts(store.manifest),
    ...{ logDigests, firstRow, logRowCount: raw.rowCount },
    changedTaskCount: tasks.tasks.filter(({ isNew }) => !isNew).length,
    newTaskCount: tasks.tasks.filter(({ isNew }) => isNew).length - (tasks.trunk?.batchCount ?? 0),
  };
  const refusedCount = rejects.filter(({ row }) => row !== null).length;
  const manifest = manifestOf(store.manifest, append, {
    ...{ encodings, tasks, waited, ...written, rejectedRowCount: rejects.length },
    acceptedRowCount: Number(acceptedRowCount),
    filteredRowCount: raw.rowCount + waited.rowCount - refusedCount - Number(acceptedRowCount),
  });
  await writeJson(target.workFolder, MANIFEST_FILE, manifest);
  if (signal.aborted) throw interruption();
  const newFiles = written.files.map(({ name }) => name);
  await target.publishAppended(newFiles, supersededFiles(store.manifest));
  const { changedTaskCount, newTaskCount, logRowCount } = append;
  const durationMs = clock.monotonicMs() - startedMs;
  const changes = `${counted(changedTaskCount, 'task')} with new rows, ${counted(newTaskCount, 'new task')}`;
  const text = `appended ${counted(logRowCount, 'row')}: ${changes}, in ${secondsText(durationMs)}`;
  sink(noticeEvent('logs-appended', text));
  const rejectsFile = rejectsFileOf(manifest.appends?.length ?? 0);
  for (const event of rejectedRowsEvents(rejects, rejectsFile)) sink(event);
  if (tasks.tooSmallTaskCount > 0) sink(waitingTasksEvent(tasks, written.dropped, config));
  return { append, knownFileCount };
}

/**
 * Files whose content was not appended before.
 *
 * @param known digests, to which theirs are added.
 */
async function newFilesOf(
  found: readonly LogFile[],
  known: Set<string>,
  signal: AbortSignal,
): Promise<{
  readonly files: LogFile[];
  readonly logDigests: string[];
  readonly knownFileCount: number;
}> {
  const files: LogFile[] = [];
  const logDigests: string[] = [];
  let knownFileCount = 0;
  for (const file of found) {
    const { digests, knownCount, rowCount } = file.served ?? {
      ...{ digests: [await fingerprintOf(file, signal)], knownCount: 0, rowCount: null },
    };
    const fresh = digests.filter((digest) => !known.has(digest));
    knownFileCount += knownCount + digests.length - fresh.length;
    if (fresh.length === 0 || rowCount === 0) continue;
    for (const digest of fresh) known.add(digest);
    files.push(file);
    logDigests.push(...fresh);
  }
  return { files, logDigests, knownFileCount };
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

type WaitingCounts = Awaited<ReturnType<typeof createWaitingView>>;

interface WrittenAppend {
  readonly catalog: JoinedCatalog;
  readonly files: readonly StoreFile[];
  /** Rows that waited, or came now, and are not kept. */
  readonly dropped: WaitingCounts;
}

async function writeAppend(
  { target: { workFolder }, session, store }: AppendPlace,
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
  const fresh = await freshRowsOf({ config, encodings, labels }, session, signal);
  const plan = { config, store, kinds: columnKinds({ config, encodings }), fresh, append };
  const firstFileIndex = manifest.files.filter(({ name }) => /^rows-\d+\.arrow$/.test(name)).length;
  const { result: changed, files: rows } = await writeRowFiles(
    workFolder,
    encodings.map(({ feature }) => feature),
    { hasOracle: manifest.hasOracle, firstFileIndex },
    (writer) => redivideTasks(plan, tasks.tasks, writer),
  );
  const catalog = joinedCatalog(store, tasks, changed);
  const catalogFile = catalogFileOf(append);
  await writeStoreFile(workFolder, catalogFile, encodeTaskCatalog(catalog.tasks, catalog.places));
  const rejectsFile = rejectsFileOf(append);
  await rename(join(workFolder, REJECTS_FILE), join(workFolder, rejectsFile));
  const files = [
    ...rows,
    ...(await grownDictionaryFiles({ workFolder, append }, encodings, store, session)),
  ];
  const names = [catalogFile, rejectsFile];
  let dropped: WaitingCounts = { taskCount: 0, rowCount: 0 };
  if (tasks.tooSmallTaskCount > 0) {
    names.push(waitingFileOf(append));
    dropped = await writeWaitingRows(join(workFolder, waitingFileOf(append)), session);
  }
  for (const name of names) files.push(await storeFileOf(workFolder, name));
  return { catalog, files, dropped };
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
  /** What waited before this append. */
  readonly waited: WaitingCounts;
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
  const { catalog, files, encodings, tasks, rejectedRowCount, waited } = changes;
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
            tooSmallTaskCount:
              leftOut.tooSmallTaskCount - waited.taskCount + tasks.tooSmallTaskCount,
            tooSmallRowCount: leftOut.tooSmallRowCount - waited.rowCount + tasks.tooSmallRowCount,
            cappedRowCount:
              leftOut.cappedRowCount + before.rowCount + largeRowCount - counts.rowCount,
          },
        }),
    appends: [...(before.appends ?? []), append],
    files: [
      ...before.files.filter(({ name }) => !replacedFiles(before.appends?.length).includes(name)),
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
  return appends.length === 0 ? [] : replacedFiles(appends.length - 1);
}

/** Files of a store with so many appends that the next append writes anew. */
function replacedFiles(appendCount = 0): string[] {
  return [catalogFileOf(appendCount), waitingFileOf(appendCount)];
}

/** @param folder takes the known values on their way into the tables. */
async function grownEncodings(
  config: RunConfig,
  store: TaskStore,
  folder: string,
  session: DuckSession,
): Promise<FeatureEncoding[]> {
  const encodings: FeatureEncoding[] = [];
  const own = store.manifest.features.slice(0, config.data.features.length);
  for (const [index, feature] of own.entries()) {
    const configured = config.data.features[index];
    if (feature.kind === 'number' || feature.encoding.by !== 'dictionary' || !configured) {
      encodings.push(encodedAs(index, feature));
      continue;
    }
    await loadDictionary(index, feature, { store, folder }, session);
    const idBefore = unseenBucketsOf(feature);
    // The row behind the values of a bag may be that of empty places (`padding: trained`): none can follow.
    if (feature.kind !== 'bag' || config.model.padding !== 'trained')
      await addValues(index, { ...configured, idBefore }, session);
    if (feature.kind === 'bag') await encodeDistinctBags(index, dictionaryTableOf(index), session);
    const [last] = await session.row(
      `SELECT CAST(coalesce(max(id), ${idBefore}) AS DOUBLE) FROM ${dictionaryTableOf(index)}`,
    );
    encodings.push(encodedAs(index, { ...feature, rowCount: Number(last) + 1 }));
  }
  const joined = await withFewJoins(encodings, config.data, session);
  return [...joined, ...(await loadTargetEncodings(config, joined, { store, folder }, session))];
}

/** Values travel as bytes in hexadecimal, since they may hold any character. */
async function loadDictionary(
  index: number,
  { name }: EncodedFeature,
  { store, folder }: { readonly store: TaskStore; readonly folder: string },
  session: DuckSession,
): Promise<void> {
  const values = (await store.readDictionary?.(name)) ?? [];
  const lines = values.flatMap((value, id) =>
    value === null ? [] : [`${id},${Buffer.from(value).toString('hex')}\n`],
  );
  const types = { id: 'INTEGER', hex: 'VARCHAR' };
  const known = await csvSource(join(folder, `known-${index}.csv`), lines, types);
  await session.run(
    `CREATE TABLE ${dictionaryTableOf(index)} AS SELECT decode(unhex(hex)) AS value, id FROM ${known}`,
  );
}

async function addValues(
  index: number,
  feature: FeatureConfig & { readonly idBefore: number },
  session: DuckSession,
): Promise<void> {
  if (feature.kind === 'number') return;
  const table = dictionaryTableOf(index);
  const value = feature.kind === 'bag' ? `unnest(f${index})` : `f${index}`;
  await session.run(
    `INSERT INTO ${table} SELECT value, CAST((SELECT coalesce(max(id), ${feature.idBefore}) FROM ${table})
        + row_number() OVER (ORDER BY occurrences DESC, value) AS INTEGER)
      FROM (SELECT value, count(*) AS occurrences FROM
          (SELECT ${value} AS value FROM encodable WHERE split = 0) WHERE value IS NOT NULL
          GROUP BY value HAVING count(*) >= ${feature.countMin}) found
      ANTI JOIN ${table} USING (value)`,
  );
}
