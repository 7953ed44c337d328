/**
 * Streams the encoded rows that tasks keep, in order of task, assigns each its role by its place within the
 * task, and passes whole tasks to the row files.
 */

import { at } from '../../shared/base/arrays.js';
import {
  type DuckDBDataChunk,
  DuckDBDoubleVector,
  DuckDBFloatVector,
  DuckDBIntegerVector,
  DuckDBListVector,
  type DuckDBVector,
  type DuckSession,
  interruption,
} from '../logs/duckdb-session.js';
import { textOfHex } from '../logs/sql.js';
import { STORED_SIZE_MAX } from '../../shared/features/encoding-rules.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { type CatalogTask, TASK_SPLITS } from '../../shared/tasks/task-catalog.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';
import type { FeatureEncoding } from './feature-encoding.js';
import { trunkBatchKey, type TrunkRows, type findKeptRows } from './task-division.js';
import {
  type ColumnKind,
  type CopyRows,
  RowColumns,
  type SourceColumns,
  widthOf,
  type RowFileWriter,
} from './row-file-writer.js';

type KeptRows = Awaited<ReturnType<typeof findKeptRows>>;

interface PlannedTask {
  readonly key: string;
  /** A place in `TASK_SPLITS`. */
  readonly split: number;
  readonly firstSeenTime: number;
  readonly support: number;
  readonly query: number;
  /** Null if the tasks of the store do not differ in it. */
  readonly label: number | null;
}

export interface AssemblyPlan {
  readonly config: RunConfig;
  readonly encodings: readonly FeatureEncoding[];
  readonly labels: readonly TaskLabel[] | null;
  readonly placedBySplitFile: boolean;
  readonly keptRows: KeptRows;
  readonly trunk: TrunkRows | null;
}

export const BATCH_ROWS_MIN = 4096;
const ROWS_PER_EVENT = 200_000;

export async function assembleRows(
  plan: AssemblyPlan,
  session: DuckSession,
  writer: RowFileWriter,
  { sink, signal }: { readonly sink: RunEventSink; readonly signal: AbortSignal },
): Promise<CatalogTask[]> {
  const hasLabels = plan.labels !== null;
  const ofTasks = await plannedTasks(session, hasLabels);
  const ofTrunk = plan.trunk === null ? [] : await plannedBatches(session, hasLabels);
  const planned = [...ofTasks, ...ofTrunk];
  const total = rowCountOf(planned);
  const kinds = columnKinds(plan);
  const tasks = new TaskAssembly(
    planned,
    new RowColumns(kinds),
    writer,
    plan.config.data.rowSplit.by === 'hash' && !plan.placedBySplitFile,
  );
  let done = 0;
  sink({ kind: 'progress', stage: 'sort rows', done: 0, total });
  const assemble = async (sql: string, rowCount: number): Promise<void> => {
    for await (const chunk of session.chunks(sql, rowCount)) {
      if (signal.aborted) throw interruption();
      await tasks.append(chunk.rowCount, tasksOf(chunk), sourceOf(chunk, kinds));
      const before = Math.floor(done / ROWS_PER_EVENT);
      done += chunk.rowCount;
      if (Math.floor(done / ROWS_PER_EVENT) !== before)
        sink({ kind: 'progress', stage: 'write store', done, total });
    }
  };
  await assemble(encodedRowsSql(plan), rowCountOf(ofTasks));
  if (plan.trunk !== null) {
    const sql = encodedRowsSql({ ...plan, keptRows: ALL_TRUNK_ROWS }, 'trunk_rows');
    await assemble(sql, rowCountOf(ofTrunk));
  }
  const catalog = await tasks.finish();
  sink({ kind: 'progress', stage: 'write store', done: total, total });
  return catalog;
}

function rowCountOf(tasks: readonly PlannedTask[]): number {
  return tasks.reduce((sum, { support, query }) => sum + support + query, 0);
}

const TRUNK_SPLIT = TASK_SPLITS.indexOf('trunk');
const ALL_TRUNK_ROWS: KeptRows = { filter: '', order: 'e.task, e.row' };

/** Cuts rows that arrive in order of task into tasks, and tasks into record batches. */
class TaskAssembly {
  private readonly catalog: CatalogTask[] = [];
  private taskIndex = -1;
  private taskStart = 0;

  constructor(
    private readonly planned: readonly PlannedTask[],
    private readonly columns: RowColumns,
    private readonly writer: RowFileWriter,
    /** True if the rows of a task arrive in another order than that of role and time. */
    private readonly reorders: boolean,
  ) {}

  async append(rowCount: number, taskOf: Int32Array, source: SourceColumns): Promise<void> {
    for (let start = 0; start < rowCount;) {
      const task = at(taskOf, start);
      let end = start + 1;
      while (end < rowCount && taskOf[end] === task) end += 1;
      if (task !== this.taskIndex) {
        await this.finishTask();
        this.taskIndex = task;
        this.taskStart = this.columns.rowCount;
      }
      this.columns.append(source, start, end - start);
      start = end;
    }
  }

  async finish(): Promise<CatalogTask[]> {
    await this.finishTask();
    if (this.columns.rowCount > 0) await this.writer.write(this.columns);
    return this.catalog;
  }

  private async finishTask(): Promise<void> {
    const { columns, taskIndex, taskStart } = this;
    const task = this.planned[taskIndex];
    if (task === undefined) return;
    if (columns.rowCount - taskStart !== task.support + task.query)
      throw new Error(`task ${taskIndex} has ${columns.rowCount - taskStart} rows, not as planned`);
    columns.setRolesFrom(taskStart, task.support);
    if (this.reorders || task.split === TRUNK_SPLIT) columns.sortFrom(taskStart);
    this.catalog.push({
      key: task.key,
      split: at(TASK_SPLITS, task.split),
      supportRowCount: task.support,
      queryRowCount: task.query,
      firstSeenTime: task.firstSeenTime,
      ...(task.label === null ? {} : { labelIndex: task.label }),
      ...this.writer.nextPlace(),
      rowOffset: taskStart,
    });
    if (columns.rowCount < BATCH_ROWS_MIN) return;
    await this.writer.write(columns);
    columns.clear();
  }
}

async function plannedTasks(session: DuckSession, hasLabels: boolean): Promise<PlannedTask[]> {
  const rows = await session.rows(
    `SELECT hex(key), CAST(split AS DOUBLE), first_time, CAST(support AS DOUBLE), CAST(query AS DOUBLE)${hasLabels ? ', CAST(label AS DOUBLE)' : ''} FROM tasks ORDER BY task`,
  );
  return rows.map(([key, split, firstTime, support, query, label = null]) => ({
    key: textOfHex(key),
    split: Number(split),
    firstSeenTime: Number(firstTime),
    support: Number(support),
    query: Number(query),
    label: label === null ? null : Number(label),
  }));
}

async function plannedBatches(session: DuckSession, hasLabels: boolean): Promise<PlannedTask[]> {
  const rows = await session.rows(
    `SELECT min(time), CAST(count(*) AS DOUBLE)${hasLabels ? ', CAST(min(label) AS DOUBLE)' : ''}
      FROM trunk_rows GROUP BY task ORDER BY task`,
  );
  return rows.map(([firstTime, rowCount, label = null], batch) => ({
    key: trunkBatchKey(batch),
    split: TRUNK_SPLIT,
    firstSeenTime: Number(firstTime),
    ...{ support: 0, query: Number(rowCount) },
    label: label === null ? null : Number(label),
  }));
}

export function columnKinds(plan: Pick<AssemblyPlan, 'config' | 'encodings'>): ColumnKind[] {
  return [
    'float',
    'float',
    ...plan.encodings.map(({ feature }): ColumnKind => {
      switch (feature.kind) {
        case 'category':
          return 'int';
        case 'bag':
          return { bag: feature.lengthMax };
        case 'number':
          return 'float';
      }
    }),
    ...(plan.config.evaluation.oracleColumn === undefined ? [] : (['float'] as const)),
  ];
}

/** @param rows the view that the rows are read from. */
export function encodedRowsSql(
  { config, encodings, labels, keptRows }: Omit<AssemblyPlan, 'placedBySplitFile' | 'trunk'>,
  rows: 'task_rows' | 'trunk_rows' | 'encodable' = 'task_rows',
): string {
  const values = [
    storedClicksSql(labels),
    'e.impressions',
    ...encodings.map(({ sql }) => sql),
    ...(config.evaluation.oracleColumn === undefined
      ? []
      : [byLabel(labels, 'e.oracle', (standardised) => standardised)]),
  ];
  const joins = encodings.flatMap(({ join }) => (join === null ? [] : [join]));
  // The columns of the chunks are read by their types.
  return `SELECT e.task, CAST(e.row AS DOUBLE), e.time,
      ${values.map((sql, index) => `${sql} AS v${index}`).join(', ')}
    FROM (SELECT e.* FROM ${rows} e ${keptRows.filter}) e ${joins.join(' ')} ORDER BY ${keptRows.order}`;
}

export function tasksOf(chunk: DuckDBDataChunk): Int32Array {
  const tasks = new Int32Array(chunk.rowCount);
  rowsOf(chunk.getColumnVector(0))(tasks, 0, 0, chunk.rowCount);
  return tasks;
}

export function sourceOf(chunk: DuckDBDataChunk, kinds: readonly ColumnKind[]): SourceColumns {
  const column = (index: number, width = 1) => rowsOf(chunk.getColumnVector(index), width);
  return {
    row: column(1),
    time: column(2),
    values: kinds.map((kind, index) => column(index + 3, widthOf(kind))),
  };
}

/**
 * Copies rows of a column of one number each, or of lists with `width` numbers each.
 *
 * One loop for each type of vector, since a loop that sees several types reads several times slower.
 */
export function rowsOf(vector: DuckDBVector, width = 1): CopyRows {
  if (vector instanceof DuckDBIntegerVector)
    return (to, toRow, from, count) => {
      for (let n = 0; n < count; n += 1) to[toRow + n] = requireValue(vector.getItem(from + n));
    };
  if (vector instanceof DuckDBFloatVector)
    return (to, toRow, from, count) => {
      for (let n = 0; n < count; n += 1) to[toRow + n] = requireValue(vector.getItem(from + n));
    };
  if (vector instanceof DuckDBDoubleVector)
    return (to, toRow, from, count) => {
      for (let n = 0; n < count; n += 1) to[toRow + n] = requireValue(vector.getItem(from + n));
    };
  if (vector instanceof DuckDBListVector) return rowsOfLists(vector, width);
  throw new Error(`a column of encoded values has the type ${String(vector.type)}`);
}

function rowsOfLists(vector: DuckDBListVector, width: number): CopyRows {
  const members = rowsOf(vector.childVector);
  return (to, toRow, from, count) => {
    for (let n = 0; n < count; n += 1)
      members(to, (toRow + n) * width, vector.getEntryOffset(from + n), width);
  };
}

function requireValue(value: number | null): number {
  if (value === null) throw new Error('an encoded value is missing');
  return value;
}

/** SQL of the stored `clicks` of a row of `encodable e`: values are standardised, then weighted. */
export function storedClicksSql(labels: readonly TaskLabel[] | null): string {
  return byLabel(labels, 'e.clicks', (standardised) => `e.impressions * ${standardised}`);
}

function byLabel(
  labels: readonly TaskLabel[] | null,
  column: string,
  stored: (standardised: string) => string,
): string {
  const cases = (labels ?? []).flatMap((label, index) => {
    if (label.loss === 'binary') return [];
    const value = stored(`((${column} - (${label.mean}::DOUBLE)) / ${label.deviation}::DOUBLE)`);
    const bound = `${STORED_SIZE_MAX}::DOUBLE`;
    return [`WHEN ${index} THEN least(greatest(${value}, -${bound}), ${bound})`];
  });
  if (cases.length === 0) return column;
  return `CAST(CASE e.label ${cases.join(' ')} ELSE ${column} END AS FLOAT)`;
}
