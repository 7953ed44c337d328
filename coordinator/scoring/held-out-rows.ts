/** The rows of many tasks end to end, without their features. Scoring needs no more of a split. */

import { at, spanAt } from '../../shared/base/arrays.js';
import { labelOf, type TaskLabel } from '../../shared/tasks/task-label.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';

/** The role of the rows that a prediction is about. */
export type HeldOutRole = 'query' | 'support';

export interface TaskCounts {
  /**
   * The label of all tasks; a click if absent. Values and their predictions are in their own unit
   * here.
   */
  readonly label?: TaskLabel;
  /** First row of each task, and the row count at the end: `[taskCount + 1]`. */
  readonly starts: Int32Array;
  /** `[rowCount]`, like every array of rows here. */
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
}

export interface FlatRows extends TaskCounts {
  readonly taskIndices: readonly number[];
  /** The true click probability or mean value; null if it is not known. */
  readonly oracle: Float32Array | null;
  /** Number of each row in the logs. */
  readonly logRows: Float64Array;
}

/** The rows of one split. The validation split serves to choose, the test split to score. */
export interface SplitRows {
  readonly query: FlatRows;
  readonly support: FlatRows;
}

const TASKS_PER_READ = 1024;

/** First and end row of the role within a task. */
export function roleBounds(task: TaskRows, role: HeldOutRole): [number, number] {
  return role === 'support' ? [0, task.supportRowCount] : [task.supportRowCount, task.rowCount];
}

/**
 * Reads in bounded pieces; keeps 12 to 20 bytes a row.
 *
 * @param taskIndices the indices of tasks of one label
 */
export async function readFlatRows(
  store: TaskStore,
  taskIndices: readonly number[],
  role: HeldOutRole,
): Promise<FlatRows> {
  const rowCounts = taskIndices.map((taskIndex) => {
    const entry = at(store.tasks, taskIndex);
    return role === 'query' ? entry.queryRowCount : entry.supportRowCount;
  });
  const starts = new Int32Array(taskIndices.length + 1);
  for (const [task, count] of rowCounts.entries()) starts[task + 1] = at(starts, task) + count;
  const rowCount = at(starts, taskIndices.length);
  const clicks = new Float32Array(rowCount);
  const impressions = new Float32Array(rowCount);
  const oracle = store.manifest.hasOracle ? new Float32Array(rowCount) : null;
  const logRows = new Float64Array(rowCount);
  const label = labelOfAll(store, taskIndices);
  let position = 0;
  for await (const task of tasksInOrder(store, taskIndices)) {
    const target = at(starts, position);
    const [first, end] = roleBounds(task, role);
    const ofTask = inOwnUnit(task, label);
    clicks.set(ofTask.clicks.subarray(first, end), target);
    impressions.set(task.impressions.subarray(first, end), target);
    logRows.set(task.logRows.subarray(first, end), target);
    if (ofTask.oracle !== null) oracle?.set(ofTask.oracle.subarray(first, end), target);
    position += 1;
  }
  return { label, taskIndices, starts, clicks, impressions, oracle, logRows };
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

export function supportRowCountsOf({ support }: SplitRows): number[] {
  return [...support.taskIndices.keys()].map((position) => {
    const [start, end] = spanAt(support.starts, position);
    return end - start;
  });
}

/** @throws Error if tasks differ in their label, because their rows cannot be judged together. */
export function labelOfAll(store: TaskStore, taskIndices: readonly number[]): TaskLabel {
  const indices = new Set(taskIndices.map((index) => at(store.tasks, index).labelIndex ?? 0));
  if (indices.size > 1) throw new Error(`tasks of ${indices.size} labels together`);
  const [labelIndex = 0] = indices;
  return labelOf(store.manifest, { labelIndex });
}

/** Clicks and known truth of a task's rows as they are judged, with values in their own unit. */
export function inOwnUnit(
  task: Pick<TaskRows, 'clicks' | 'impressions' | 'oracle'>,
  label: TaskLabel,
): Pick<TaskRows, 'clicks' | 'oracle'> {
  if (label.loss !== 'squared') return task;
  const { mean, deviation } = label;
  return {
    clicks: task.clicks.map((sum, row) => mean * at(task.impressions, row) + deviation * sum),
    oracle: task.oracle?.map((truth) => mean + deviation * truth) ?? null,
  };
}

/**
 * Clicks per impression of all rows of the tasks, kept off 0 and 1 by half a click. For values, their
 * mean.
 */
export async function clickRateOf(
  store: TaskStore,
  taskIndices: readonly number[],
): Promise<number> {
  const label = labelOfAll(store, taskIndices);
  const counted = await clicksOf(store, taskIndices);
  if (label.loss !== 'squared') return smoothedRate(counted);
  const { clicks, impressions } = counted;
  return label.mean + (impressions > 0 ? (label.deviation * clicks) / impressions : 0);
}

interface CountedClicks {
  readonly clicks: number;
  readonly impressions: number;
}

/** Sums over all rows of the tasks. */
export async function clicksOf(
  store: TaskStore,
  taskIndices: readonly number[],
): Promise<CountedClicks> {
  let clicks = 0;
  let impressions = 0;
  for await (const task of tasksInOrder(store, taskIndices))
    for (let row = 0; row < task.rowCount; row += 1) {
      clicks += at(task.clicks, row);
      impressions += at(task.impressions, row);
    }
  return { clicks, impressions };
}

/** Kept off 0 and 1 by half a click. */
export function smoothedRate({ clicks, impressions }: CountedClicks): number {
  if (impressions === 0) return 0.5;
  const least = Math.min(0.5, 0.5 / impressions);
  return Math.min(1 - least, Math.max(least, clicks / impressions));
}

/** Reads the tasks in bounded pieces. */
async function* tasksInOrder(
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
    starts[index + 1] = at(starts, index) + taskRowCount(rows, position);
  return {
    ...(rows.label === undefined ? {} : { label: rows.label }),
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
    const part = values.subarray(...spanAt(rows.starts, position));
    selected.set(part, target);
    target += part.length;
  }
  return selected;
}

function taskRowCount(rows: TaskCounts, position: number): number {
  const [start, end] = spanAt(rows.starts, position);
  return end - start;
}
