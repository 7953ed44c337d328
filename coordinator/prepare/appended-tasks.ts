/**
 * The tasks that appended logs have rows of: those of the store, which keep their index, split and label,
 * new ones that are large enough, and batches of small training tasks whose rows train the trunk. Rows of other new tasks
 * wait for later appends. Creates the table `tasks` (task, key, split, and label if tasks differ
 * in it) and the view `encodable` of their rows.
 */

import { join } from 'node:path';
import { errorOf } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { noticeEvent, warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import { type CatalogTask, TASK_SPLITS } from '../../shared/tasks/task-catalog.js';
import {
  adgroupsOf,
  type TaskEntry,
  type TaskRows,
  type TaskStore,
} from '../../shared/tasks/task-store.js';
import { type DuckSession, interruption } from '../logs/duckdb-session.js';
import { literal, textOfHex } from '../logs/sql.js';
import { csvSource } from '../logs/work-folder.js';
import { requireOneLabelPerTask, rowLabelsOf, storesLabels } from './row-judgement.js';
import {
  describeKey,
  hashSplitSql,
  TRUNK_BATCH_ROWS_MAX,
  trunkBatchKey,
  type TrunkRows,
  encodingFoldSql,
} from './task-division.js';
import { at, float64At } from '../../shared/base/arrays.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';
import {
  type AssemblyPlan,
  BATCH_ROWS_MIN,
  columnKinds,
  encodedRowsSql,
  sourceOf,
  tasksOf,
} from './row-assembly.js';
import {
  type ColumnKind,
  RowColumns,
  type SourceColumns,
  type RowFileWriter,
} from './row-file-writer.js';
import type { DataConfig } from '../../shared/config/data-config.js';

interface AppendedTask {
  /** Its place in the catalog; those of new tasks follow the ones of the store. */
  readonly taskIndex: number;
  readonly key: string;
  /** The keys of its rows in the logs: its own, or those of the small tasks of a batch. */
  readonly logKeys: readonly string[];
  /** A place in `TASK_SPLITS`. */
  readonly split: number;
  readonly firstSeenTime: number | null;
  readonly labelIndex: number | null;
  readonly isNew: boolean;
}

interface AppendedTasks {
  readonly tasks: readonly AppendedTask[];
  readonly tooSmallTaskCount: number;
  readonly tooSmallRowCount: number;
  /** The counts of the batches of small tasks among `tasks`; null if there are none. */
  readonly trunk: TrunkRows | null;
}

export async function appendedTasksOf(
  config: RunConfig,
  store: TaskStore,
  folder: string,
  session: DuckSession,
): Promise<AppendedTasks> {
  const labels = rowLabelsOf(config.data);
  const hasLabels = storesLabels(labels);
  await session.run(
    `CREATE TABLE task_sizes AS SELECT key, count(*) AS rows, min(time) AS first_time
      ${hasLabels ? ', min(j.label) AS label, max(j.label) AS label_max' : ''} FROM accepted j GROUP BY key`,
  );
  if (labels.length > 1) await requireOneLabelPerTask(labels, session);
  const found = await session.rows(
    `SELECT hex(key), CAST(rows AS DOUBLE), first_time, CAST(${hashSplitSql(config)} AS DOUBLE),
      ${hasLabels ? 'CAST(label AS DOUBLE)' : 'NULL::DOUBLE'}, CAST(${encodingFoldSql(config, 'key')} AS DOUBLE)
      FROM task_sizes ORDER BY key`,
  );
  const known = knownTasks(store, new Set(found.map(([hex]) => textOfHex(hex))));
  const small: SmallTask[] = [];
  const tasks: AppendedTask[] = [];
  let [tooSmallTaskCount, tooSmallRowCount, newCount] = [0, 0, 0];
  for (const [hex, rowCount, time, split, label, fold] of found) {
    const key = textOfHex(hex);
    const before = known.get(key);
    const labelIndex = label === null || label === undefined ? null : Number(label);
    if (before !== undefined) {
      requireSameLabel(before.key, before.labelIndex ?? null, labelIndex);
      const { taskIndex, firstSeenTime } = before;
      const splitIndex = TASK_SPLITS.indexOf(before.split);
      tasks.push({
        taskIndex,
        ...{ key: before.key, logKeys: [before.key] },
        split: splitIndex,
        firstSeenTime,
        labelIndex,
        isNew: false,
      });
      continue;
    }
    if (isTooSmall(config, Number(rowCount))) {
      if (config.data.trunkRows === 'small-tasks' && Number(split) === 0) {
        small.push({
          ...{ key, rowCount: Number(rowCount), time: Number(time) },
          ...{ labelIndex, fold: Number(fold) },
        });
        continue;
      }
      tooSmallTaskCount += 1;
      tooSmallRowCount += Number(rowCount);
      continue;
    }
    tasks.push({
      ...{ taskIndex: store.tasks.length + newCount, split: Number(split) },
      ...{ key, logKeys: [key] },
      ...{ firstSeenTime: Number(time), labelIndex, isNew: true },
    });
    newCount += 1;
  }
  const batches = batchesOf(small, {
    taskIndex: store.tasks.length + newCount,
    batch: store.manifest.trunk?.batchCount ?? 0,
  });
  tasks.push(...batches);
  await createTables(tasks, folder, session);
  const trunk = small.length === 0 ? null : trunkRowsOf(small, batches.length);
  return { tasks, tooSmallTaskCount, tooSmallRowCount, trunk };
}

/** The adgroups of these keys: a map of all would take longer than all else here. */
function knownTasks(store: TaskStore, keys: ReadonlySet<string>): ReadonlyMap<string, TaskEntry> {
  const known = new Map<string, TaskEntry>();
  for (const task of adgroupsOf(store)) if (keys.has(task.key)) known.set(task.key, task);
  return known;
}

function trunkRowsOf(small: readonly SmallTask[], batchCount: number): TrunkRows {
  const rowCount = small.reduce((sum, task) => sum + task.rowCount, 0);
  return { batchCount, rowCount, smallTaskCount: small.length, smallTaskRowCount: rowCount };
}

interface SmallTask {
  readonly key: string;
  readonly rowCount: number;
  readonly time: number;
  readonly labelIndex: number | null;
  /** The fold of the task in the target encodings. */
  readonly fold: number;
}

/** Whole small tasks of one label and fold, in the order of their keys, up to the size of a batch. */
function batchesOf(
  small: readonly SmallTask[],
  first: { readonly taskIndex: number; readonly batch: number },
): AppendedTask[] {
  const groups: { readonly members: SmallTask[]; rowCount: number }[] = [];
  const kindOf = ({ labelIndex, fold }: SmallTask): string => `${labelIndex ?? 0}/${fold}`;
  for (const kind of new Set(small.map(kindOf))) {
    let group: (typeof groups)[number] | null = null;
    for (const task of small) {
      if (kindOf(task) !== kind) continue;
      if (group === null || group.rowCount + task.rowCount > TRUNK_BATCH_ROWS_MAX) {
        group = { members: [], rowCount: 0 };
        groups.push(group);
      }
      group.members.push(task);
      group.rowCount += task.rowCount;
    }
  }
  return groups.map(({ members }, place) => ({
    taskIndex: first.taskIndex + place,
    ...{ key: trunkBatchKey(first.batch + place), logKeys: members.map(({ key }) => key) },
    split: TRUNK_SPLIT,
    firstSeenTime: members.reduce((least, { time }) => Math.min(least, time), Infinity),
    ...{ labelIndex: members[0]?.labelIndex ?? null, isNew: true },
  }));
}

const TRUNK_SPLIT = TASK_SPLITS.indexOf('trunk');

function isTooSmall({ data: { rowSplit } }: RunConfig, rowCount: number): boolean {
  const boundary = boundaryOf(rowSplit, rowCount);
  const support = Math.min(boundary, rowSplit.supportRowsMax);
  const query = Math.min(rowCount - boundary, rowSplit.queryRowsMax);
  return support < rowSplit.supportRowsMin || query < rowSplit.queryRowsMin;
}

function requireSameLabel(key: string, before: number | null, found: number | null): void {
  if (before === null || found === null || before === found) return;
  throw errorOf('data', 'a task has rows of two segments', {
    where: `data.segments.column, task ${describeKey(key)}`,
    expected: 'the segment that the task has in the store',
    cure: 'add the column of the segments to data.task and prepare all logs again',
  });
}

async function createTables(
  tasks: readonly AppendedTask[],
  folder: string,
  session: DuckSession,
): Promise<void> {
  // Dictionaries grow by the rows of split 0, to which batches belong here.
  const lines = tasks.flatMap(({ taskIndex, split, logKeys }) =>
    logKeys.map(
      (key) =>
        `${taskIndex},${split === TRUNK_SPLIT ? 0 : split},${Buffer.from(key).toString('hex')}\n`,
    ),
  );
  const types = { task: 'INTEGER', split: 'INTEGER', hex: 'VARCHAR' };
  const found = await csvSource(join(folder, 'tasks.csv'), lines, types);
  await session.run(
    `CREATE TABLE tasks AS SELECT task, split, decode(unhex(hex)) AS key FROM ${found}`,
  );
  await session.run(
    `CREATE VIEW encodable AS SELECT t.task, t.split, j.* EXCLUDE (key, code)
      FROM accepted j JOIN tasks t ON j.key = t.key`,
  );
}

/** Beyond these bounds, the adgroups whose last rows came first wait no longer. */
const WAITING_TASKS_MAX = 100_000;
const WAITING_ROWS_MAX = 1_000_000;

interface TaskCounts {
  readonly taskCount: number;
  readonly rowCount: number;
}

/** Makes the view `waiting`, unless it would be empty: rows of adgroups that were too small at earlier appends. */
export async function createWaitingView(
  store: TaskStore,
  session: DuckSession,
): Promise<TaskCounts> {
  const path = await store.waitingRowsPath?.();
  if (path === undefined || path === null) return { taskCount: 0, rowCount: 0 };
  await session.run(`CREATE VIEW waiting AS FROM read_parquet(${literal(path)})`);
  const [taskCount, rowCount] = await session.row(
    'SELECT CAST(count(DISTINCT key) AS DOUBLE), CAST(count(*) AS DOUBLE) FROM waiting',
  );
  return { taskCount: Number(taskCount), rowCount: Number(rowCount) };
}

/** Writes the rows of adgroups that are still too small. Returns how many are dropped. */
export async function writeWaitingRows(path: string, session: DuckSession): Promise<TaskCounts> {
  await session.run(
    `CREATE TABLE small_rows AS SELECT * EXCLUDE (code) FROM accepted ANTI JOIN tasks USING (key);
    CREATE TABLE dropped AS SELECT key, rows FROM
      (SELECT key, rows, row_number() OVER newest AS place, sum(rows) OVER newest AS total FROM
        (SELECT key, count(*) AS rows, max(row) AS last_row FROM small_rows GROUP BY key)
        WINDOW newest AS (ORDER BY last_row DESC))
      WHERE place > ${WAITING_TASKS_MAX} OR total > ${WAITING_ROWS_MAX};
    COPY (FROM small_rows ANTI JOIN dropped USING (key) ORDER BY row) TO ${literal(path)} (FORMAT parquet)`,
  );
  const [taskCount, rowCount] = await session.row(
    'SELECT CAST(count(*) AS DOUBLE), CAST(coalesce(sum(rows), 0) AS DOUBLE) FROM dropped',
  );
  return { taskCount: Number(taskCount), rowCount: Number(rowCount) };
}

/** The event about adgroups whose rows wait; a warning where some are dropped. */
export function waitingTasksEvent(
  { tooSmallTaskCount, tooSmallRowCount }: AppendedTasks,
  dropped: TaskCounts,
  { data: { rowSplit } }: RunConfig,
): RunEvent {
  const rowsMin = rowSplit.supportRowsMin + rowSplit.queryRowsMin;
  const textOf = (taskCount: number, rowCount: number): string =>
    `${counted(taskCount, 'new adgroup')} (${counted(rowCount, 'row')})`;
  const small = `${textOf(tooSmallTaskCount, tooSmallRowCount)} below supportRowsMin + queryRowsMin = ${rowsMin} rows`;
  if (dropped.taskCount === 0)
    return noticeEvent('small-tasks-wait', `${small}: kept for a later refresh`);
  const bounds = `${WAITING_TASKS_MAX} adgroups and ${WAITING_ROWS_MAX} rows`;
  const oldest = textOf(dropped.taskCount, dropped.rowCount);
  const text = `${small}: more than the ${bounds} that wait for a later refresh; ${oldest} dropped, oldest first`;
  return warningEvent('small-tasks-dropped', text);
}

interface RedivisionPlan {
  readonly config: RunConfig;
  readonly store: TaskStore;
  readonly kinds: readonly ColumnKind[];
  readonly fresh: FreshRows;
  /** The number of this append, from 1. */
  readonly append: number;
}

/** @returns the tasks with their new places, in the order given. */
export async function redivideTasks(
  plan: RedivisionPlan,
  tasks: readonly AppendedTask[],
  writer: RowFileWriter,
): Promise<CatalogTask[]> {
  const columns = new RowColumns(plan.kinds);
  const written: CatalogTask[] = [];
  for (const task of tasks) {
    const stored = task.isNew ? null : await storedRowsOf(plan, task.taskIndex);
    const rowOffset = columns.rowCount;
    const { supportRowCount, queryRowCount } = appendRows(plan, { task, stored }, columns);
    columns.setRolesFrom(rowOffset, supportRowCount);
    const { key, split, firstSeenTime, labelIndex } = task;
    written.push({
      ...{ key, split: at(TASK_SPLITS, split), supportRowCount, queryRowCount, firstSeenTime },
      ...(labelIndex === null ? {} : { labelIndex }),
      ...{ changedIn: plan.append, ...writer.nextPlace(), rowOffset },
    });
    if (columns.rowCount < BATCH_ROWS_MIN) continue;
    await writer.write(columns);
    columns.clear();
  }
  if (columns.rowCount > 0) await writer.write(columns);
  return written;
}

function appendRows(
  { config, fresh }: RedivisionPlan,
  { task, stored }: { readonly task: AppendedTask; readonly stored: RowsInMemory | null },
  columns: RowColumns,
): ReturnType<typeof spanToKeep> {
  const [start, end] = fresh.spans.get(task.taskIndex) ?? [0, 0];
  const all = [
    ...Array.from({ length: stored?.rowCount ?? 0 }, (_, row) => ({ from: stored ?? fresh, row })),
    ...Array.from({ length: end - start }, (_, row) => ({ from: fresh, row: start + row })),
  ].sort(
    (a, b) =>
      float64At(a.from.times, a.row) - float64At(b.from.times, b.row) ||
      float64At(a.from.rows, a.row) - float64At(b.from.rows, b.row),
  );
  const span =
    TASK_SPLITS[task.split] === 'trunk'
      ? { first: 0, supportRowCount: 0, queryRowCount: all.length }
      : spanToKeep(config.data.rowSplit, all.length);
  const last = span.first + span.supportRowCount + span.queryRowCount;
  for (const { from, row } of all.slice(span.first, last)) columns.append(from.source, row, 1);
  return span;
}

async function storedRowsOf({ store }: RedivisionPlan, taskIndex: number): Promise<RowsInMemory> {
  const task = at(await store.readTasks([taskIndex]), 0);
  const { clicks, impressions, oracle, logRows, times } = task;
  return rowsInMemory(logRows, times, [
    { width: 1, of: clicks },
    { width: 1, of: impressions },
    ...featureColumns(store.manifest.features, task),
    ...(oracle === null ? [] : [{ width: 1, of: oracle }]),
  ]);
}

/** In the order of the manifest, which lists kinds among each other. */
function featureColumns(
  features: readonly EncodedFeature[],
  { categoryIds, bagIds, numbers }: TaskRows,
): { readonly width: number; readonly of: Int32Array | Float32Array }[] {
  const left = { category: [...categoryIds], bag: [...bagIds], number: [...numbers] };
  return features.map((feature) => {
    const of = left[feature.kind].shift();
    if (of === undefined) throw new Error(`a task has no column ${feature.name}`);
    return { width: feature.kind === 'bag' ? feature.lengthMax : 1, of };
  });
}

/** Rows in memory that may be copied one by one. */
interface RowsInMemory {
  readonly rowCount: number;
  readonly times: Float64Array;
  /** Numbers of the rows in all logs of the store. */
  readonly rows: Float64Array;
  readonly source: SourceColumns;
}

interface FreshRows extends RowsInMemory {
  /** By task: its first row, and the one behind its last. */
  readonly spans: ReadonlyMap<number, readonly [number, number]>;
}

export async function freshRowsOf(
  plan: Omit<AssemblyPlan, 'placedBySplitFile' | 'keptRows' | 'trunk'>,
  session: DuckSession,
  signal: AbortSignal,
): Promise<FreshRows> {
  const kinds = columnKinds(plan);
  const columns = new RowColumns(kinds);
  const spans = new Map<number, readonly [number, number]>();
  const keptRows = { filter: '', order: 'e.task, e.time, e.row' };
  const sql = encodedRowsSql({ ...plan, keptRows }, 'encodable');
  for await (const chunk of session.chunks(sql, await session.count('encodable'))) {
    if (signal.aborted) throw interruption();
    const start = columns.rowCount;
    for (const [place, task] of tasksOf(chunk).entries())
      spans.set(task, [spans.get(task)?.[0] ?? start + place, start + place + 1]);
    columns.append(sourceOf(chunk, kinds), 0, chunk.rowCount);
  }
  const rows = Float64Array.from(columns.rowNumbers(), Number);
  const values = columns.values().map(({ width, values: of }) => ({ width: width ?? 1, of }));
  return { ...rowsInMemory(rows, columns.times(), values), spans };
}

function rowsInMemory(
  rows: Float64Array,
  times: Float64Array,
  values: readonly { readonly width: number; readonly of: Int32Array | Float32Array }[],
): RowsInMemory {
  return {
    ...{ rowCount: rows.length, rows, times },
    source: {
      row: copierOf(rows, 1),
      time: copierOf(times, 1),
      values: values.map(({ width, of }) => copierOf(of, width)),
    },
  };
}

function copierOf(
  values: Float64Array | Int32Array | Float32Array,
  width: number,
): SourceColumns['row'] {
  return (to, toRow, from, count) => {
    for (let place = 0; place < count * width; place += 1)
      to[toRow * width + place] = at<number>(values, from * width + place);
  };
}

type RowSplit = DataConfig['rowSplit'];

/** The number of rows in the early part. */
function boundaryOf(
  { supportShare, supportRowsMin, queryRowsMin }: RowSplit,
  rowCount: number,
): number {
  const share = Math.floor(rowCount * supportShare + 0.5);
  return Math.max(Math.min(Math.max(share, supportRowsMin), rowCount - queryRowsMin), 0);
}

/** The rows that are kept, from `first` on, and how many of them are support rows. */
interface KeptSpan {
  readonly first: number;
  readonly supportRowCount: number;
  readonly queryRowCount: number;
}

/** The newest rows: an adgroup with more than it may have adapts to those before the last query rows. */
function spanToKeep(split: RowSplit, rowCount: number): KeptSpan {
  const boundary = boundaryOf(split, rowCount);
  const supportRowCount = Math.min(boundary, split.supportRowsMax);
  const queryRowCount = Math.min(rowCount - boundary, split.queryRowsMax);
  return { first: rowCount - queryRowCount - supportRowCount, supportRowCount, queryRowCount };
}
