/** The rows of many tasks end to end, without their features: what scoring needs of a split. */

import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';

export type RowRole = 'query' | 'support';

export interface TaskCounts {
  /** First row of each task, and the row count at the end: `[taskCount + 1]`. */
  readonly starts: Int32Array;
  /** `[rowCount]`, as is every array of rows here. */
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
}

export interface FlatRows extends TaskCounts {
  readonly taskIndices: readonly number[];
  /** Known true click probability, or null. */
  readonly oracle: Float32Array | null;
  /** Number of each row in the logs. */
  readonly logRows: Float64Array;
}

/** The rows of one split: of the validation split to choose, of the test split to score. */
export interface SplitRows {
  readonly query: FlatRows;
  readonly support: FlatRows;
}

const TASKS_PER_READ = 1024;

/** First and end row of the role within a task. */
export function roleBounds(task: TaskRows, role: RowRole): [number, number] {
  return role === 'support' ? [0, task.supportRowCount] : [task.supportRowCount, task.rowCount];
}

/** Reads in bounded pieces; keeps 12 to 20 bytes a row. */
export async function readFlatRows(
  store: TaskStore,
  taskIndices: readonly number[],
  role: RowRole,
): Promise<FlatRows> {
  const rowCounts = taskIndices.map((taskIndex) => {
    const entry = store.tasks[taskIndex];
    return (role === 'query' ? entry?.queryRowCount : entry?.supportRowCount) ?? 0;
  });
  const starts = new Int32Array(taskIndices.length + 1);
  for (const [task, count] of rowCounts.entries()) starts[task + 1] = (starts[task] ?? 0) + count;
  const rowCount = starts[taskIndices.length] ?? 0;
  const clicks = new Float32Array(rowCount);
  const impressions = new Float32Array(rowCount);
  const oracle = store.manifest.hasOracle ? new Float32Array(rowCount) : null;
  const logRows = new Float64Array(rowCount);
  let position = 0;
  for await (const task of tasksInOrder(store, taskIndices)) {
    const target = starts[position] ?? 0;
    const [first, end] = roleBounds(task, role);
    clicks.set(task.clicks.subarray(first, end), target);
    impressions.set(task.impressions.subarray(first, end), target);
    logRows.set(task.logRows.subarray(first, end), target);
    if (task.oracle !== null) oracle?.set(task.oracle.subarray(first, end), target);
    position += 1;
  }
  return { taskIndices, starts, clicks, impressions, oracle, logRows };
}

export async function readSplitRows(
  store: TaskStore,
  taskIndices: readonly number[],
): Promise<SplitRows> {
  return {
    query: await readFlatRows(store, taskIndices, 'query'),
    support: await readFlatRows(store, taskIndices, 'support'),
  };
}

/** Clicks per impression of all rows of the tasks, kept off 0 and 1 by half a click. */
export async function clickRateOf(
  store: TaskStore,
  taskIndices: readonly number[],
): Promise<number> {
  let clicks = 0;
  let impressions = 0;
  for await (const task of tasksInOrder(store, taskIndices))
    for (let row = 0; row < task.rowCount; row += 1) {
      clicks += task.clicks[row] ?? 0;
      impressions += task.impressions[row] ?? 0;
    }
  if (impressions === 0) return 0.5;
  const least = Math.min(0.5, 0.5 / impressions);
  return Math.min(1 - least, Math.max(least, clicks / impressions));
}

/** Reads in bounded pieces. */
export async function* tasksInOrder(
  store: TaskStore,
  taskIndices: readonly number[],
): AsyncGenerator<TaskRows> {
  for (let start = 0; start < taskIndices.length; start += TASKS_PER_READ)
    yield* await store.readTasks(taskIndices.slice(start, start + TASKS_PER_READ));
}

/** The counts of some of the tasks, by position. */
export function selectTasks(rows: TaskCounts, positions: readonly number[]): TaskCounts {
  const starts = new Int32Array(positions.length + 1);
  for (const [index, position] of positions.entries())
    starts[index + 1] = (starts[index] ?? 0) + taskRowCount(rows, position);
  return {
    starts,
    clicks: selectRows(rows, positions, rows.clicks),
    impressions: selectRows(rows, positions, rows.impressions),
  };
}

/** `values` `[rowCount]` of the tasks at `positions`, in that order. */
export function selectRows(
  rows: TaskCounts,
  positions: readonly number[],
  values: Float32Array,
): Float32Array {
  const length = positions.reduce((sum, position) => sum + taskRowCount(rows, position), 0);
  const selected = new Float32Array(length);
  let target = 0;
  for (const position of positions) {
    const part = values.subarray(rows.starts[position] ?? 0, rows.starts[position + 1] ?? 0);
    selected.set(part, target);
    target += part.length;
  }
  return selected;
}

function taskRowCount(rows: TaskCounts, position: number): number {
  return (rows.starts[position + 1] ?? 0) - (rows.starts[position] ?? 0);
}
