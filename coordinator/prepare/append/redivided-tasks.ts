/**
 * Joins the stored and the new rows of tasks in order of time, divides them anew, and writes them to new row
 * files. The stored rows of such a task stay in their old file, where nothing reads them any more.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { TASK_SPLITS, type CatalogTask } from '../../../shared/tasks/task-catalog.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { BATCH_ROWS_MIN } from '../row-assembly.js';
import { RowColumns, type ColumnKind } from '../row-columns.js';
import type { RowFileWriter } from '../row-file-writer.js';
import type { AppendedTask } from './appended-tasks.js';
import { rowsInMemory, type FreshRows, type RowsInMemory } from './fresh-rows.js';
import { keptSpanOf } from './row-division.js';

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
): ReturnType<typeof keptSpanOf> {
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
      : keptSpanOf(config.data.rowSplit, all.length);
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
