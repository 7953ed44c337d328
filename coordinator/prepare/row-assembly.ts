/**
 * Streams the encoded rows in order of task, assigns each its role by its place within the task, leaves
 * out rows beyond the caps, and passes whole tasks to the row files.
 */

import { at } from '../../shared/base/arrays.js';
import {
  DuckDBListVector,
  interrupted,
  type DuckDBDataChunk,
  type DuckDBVector,
  type DuckSession,
} from '../logs/duckdb-session.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { TASK_SPLITS, type CatalogTask } from '../../shared/tasks/task-catalog.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';
import type { FeatureEncoding } from './feature-encoding.js';
import { RowColumns, type ChunkReaders, type ColumnKind, type ValueOf } from './row-columns.js';
import type { RowFileWriter } from './row-file-writer.js';
import { seededHash } from '../logs/sql.js';
import { storedClicksSql, storedOracleSql } from './task-labels.js';
import { describeKey } from './task-division.js';

interface PlannedTask {
  readonly key: string;
  readonly split: number;
  readonly rows: number;
  readonly firstSeenTime: number;
  /** The place of the first query row among the ordered rows of the task. */
  readonly boundary: number;
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
}

const BATCH_ROWS_MIN = 4096;
const ROWS_PER_EVENT = 200_000;

export async function assembleRows(
  plan: AssemblyPlan,
  session: DuckSession,
  writer: RowFileWriter,
  { sink, signal }: { readonly sink: RunEventSink; readonly signal: AbortSignal },
): Promise<CatalogTask[]> {
  const planned = await plannedTasks(session, plan.labels !== null);
  const total = planned.reduce((sum, task) => sum + task.rows, 0);
  const catalog: CatalogTask[] = [];
  const columns = new RowColumns(columnKinds(plan));
  const reorders = plan.config.data.rowSplit.by === 'hash' && !plan.placedBySplitFile;
  const demandOrder = orderOfTimeDemand(plan, planned);
  let taskIndex = -1;
  let place = 0;
  let taskStart = 0;
  let done = 0;

  const finishTask = async (): Promise<void> => {
    const task = planned[taskIndex];
    if (task === undefined) return;
    if (reorders) columns.sortFrom(taskStart);
    catalog.push({
      key: task.key,
      split: at(TASK_SPLITS, task.split),
      supportRowCount: task.support,
      queryRowCount: task.query,
      firstSeenTime: task.firstSeenTime,
      ...(task.label === null ? {} : { labelIndex: task.label }),
      ...writer.nextPlace(),
      rowOffset: taskStart,
    });
    if (columns.rowCount - taskStart !== task.support + task.query)
      throw new Error(`task ${taskIndex} has ${columns.rowCount - taskStart} rows, not as planned`);
    if (columns.rowCount < BATCH_ROWS_MIN) return;
    await writer.write(columns);
    columns.clear();
  };

  sink({ kind: 'progress', stage: 'sort rows', done: 0, total });
  const result = await session.stream(encodedRowsSql(plan));
  for (let chunk = await nextChunk(); chunk !== null; chunk = await nextChunk()) {
    if (signal.aborted) throw interrupted();
    const { task, ...readers } = readersOf(chunk, columnKinds(plan));
    for (let at = 0; at < chunk.rowCount; at += 1) {
      const index = task(at, 0);
      if (index !== taskIndex) {
        await finishTask();
        taskIndex = index;
        taskStart = columns.rowCount;
        place = 0;
      }
      demandOrder(index, readers, at);
      const role = roleOf(planned[index], place);
      if (role !== null) columns.push(readers, at, role);
      place += 1;
    }
    const before = Math.floor(done / ROWS_PER_EVENT);
    done += chunk.rowCount;
    if (Math.floor(done / ROWS_PER_EVENT) !== before)
      sink({ kind: 'progress', stage: 'write store', done, total });
  }
  await finishTask();
  if (columns.rowCount > 0) await writer.write(columns);
  sink({ kind: 'progress', stage: 'write store', done: total, total });
  return catalog;

  async function nextChunk(): Promise<DuckDBDataChunk | null> {
    const chunk = await result.fetchChunk();
    return chunk === null || chunk.rowCount === 0 ? null : chunk;
  }
}

/** Grouped rows split by time are not sorted. Out of order, future rows would become support. */
function orderOfTimeDemand(
  { config, placedBySplitFile }: AssemblyPlan,
  planned: readonly PlannedTask[],
): (taskIndex: number, readers: ChunkReaders, at: number) => void {
  const { grouped, time: timeColumn, rowSplit } = config.data;
  if (!grouped || timeColumn === undefined || rowSplit.by !== 'time' || placedBySplitFile)
    return () => undefined;
  let taskBefore = -1;
  let timeBefore = 0;
  return (taskIndex, readers, at) => {
    const time = readers.time(at, 0);
    if (taskIndex === taskBefore && time < timeBefore)
      throw new QianmoError({
        kind: 'data',
        what: 'the rows of a task are not in order of time, as data.grouped says',
        where: `row ${readers.row(at, 0)}, task ${describeKey(planned[taskIndex]?.key ?? '')}`,
        expected: `${timeBefore} or later, the time of the row before it`,
        found: String(time),
        cure: 'set data.grouped to false, or sort the logs by the task columns and the time',
      });
    taskBefore = taskIndex;
    timeBefore = time;
  };
}

/** 0 support, 1 query, null beyond the caps. */
function roleOf(task: PlannedTask | undefined, place: number): 0 | 1 | null {
  if (task === undefined) throw new Error('a row of a task that is not planned');
  const { boundary, support, query } = task;
  if (place < boundary) return place >= boundary - support ? 0 : null;
  return place < boundary + query ? 1 : null;
}

async function plannedTasks(session: DuckSession, hasLabels: boolean): Promise<PlannedTask[]> {
  const rows = await session.rows(
    `SELECT key, CAST(split AS DOUBLE), CAST(rows AS DOUBLE), first_time, CAST(boundary AS DOUBLE),
      CAST(support AS DOUBLE), CAST(query AS DOUBLE)${hasLabels ? ', CAST(label AS DOUBLE)' : ''} FROM tasks ORDER BY task`,
  );
  return rows.map(([key, split, count, firstTime, boundary, support, query, label = null]) => ({
    key: String(key),
    split: Number(split),
    rows: Number(count),
    firstSeenTime: Number(firstTime),
    boundary: Number(boundary),
    support: Number(support),
    query: Number(query),
    label: label === null ? null : Number(label),
  }));
}

function columnKinds(plan: AssemblyPlan): ColumnKind[] {
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

function encodedRowsSql({ config, encodings, labels, placedBySplitFile }: AssemblyPlan): string {
  const { data, seed } = config;
  const values = [
    storedClicksSql(labels),
    'e.impressions',
    ...encodings.map(({ sql }) => sql),
    ...(config.evaluation.oracleColumn === undefined ? [] : [storedOracleSql(labels)]),
  ];
  const joins = encodings.flatMap(({ join }) => (join === null ? [] : [join]));
  return `SELECT CAST(e.task AS INTEGER), CAST(e.row AS DOUBLE), e.time,
      ${values.map((sql, index) => `${sql} AS v${index}`).join(', ')}
    FROM encodable e ${joins.join(' ')} ${orderSql()}`;

  function orderSql(): string {
    if (placedBySplitFile) return 'ORDER BY e.task, e.role, e.time, e.row';
    if (data.rowSplit.by === 'hash')
      return `ORDER BY e.task, ${seededHash(seed, 'row split', 'CAST(e.row AS VARCHAR)')}, e.row`;
    return data.grouped ? '' : 'ORDER BY e.task, e.time, e.row';
  }
}

function readersOf(
  chunk: DuckDBDataChunk,
  kinds: readonly ColumnKind[],
): ChunkReaders & { readonly task: ValueOf } {
  const reader = (index: number): ValueOf => readerOf(chunk.getColumnVector(index));
  return {
    task: reader(0),
    row: reader(1),
    time: reader(2),
    values: kinds.map((_, index) => reader(index + 3)),
  };
}

function readerOf(vector: DuckDBVector): ValueOf {
  if (vector instanceof DuckDBListVector) {
    const members = vector.childVector;
    return (row, place) => numberIn(members, vector.getEntryOffset(row) + place);
  }
  return (row) => numberIn(vector, row);
}

function numberIn(vector: DuckDBVector, index: number): number {
  const value: unknown = vector.getItem(index);
  if (typeof value !== 'number') throw new Error('an encoded value is not a number');
  return value;
}
