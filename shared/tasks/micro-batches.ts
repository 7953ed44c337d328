/**
 * Cuts a job's tasks into micro-batches: groups of tasks of similar size that are computed at once,
 * padded to a few distinct shapes. The cut depends on the job alone and never on earlier jobs, since
 * it decides in which order gradients are summed. No tensors here.
 */

import { at, float64At, int32At } from '../base/arrays.js';

/** Numbers of rows of one task. */
export interface TaskSize {
  readonly supportRowCount: number;
  readonly queryRowCount: number;
}

/** A micro-batch and its padded extents. Rows lie by task, `[taskCount, extent]`, or flat. */
export interface MicroBatch {
  /** The tasks' places in the job, smallest task first. */
  readonly taskPlaces: readonly number[];
  /** At least `taskPlaces.length`; tasks beyond the last have neither rows nor weight. */
  readonly taskCount: number;
  /** Padded support rows of each task; 0 when no task has any. */
  readonly supportExtent: number;
  readonly queryExtent: number;
  /** Padded rows of all tasks, laid end to end; 0 where no rows lie flat. */
  readonly flatExtent: number;
}

/**
 * The fixed cost of a micro-batch in rows: preparing its arrays, the call, some hundred graph nodes.
 * Groups are merged where padding is cheaper than another call.
 */
export const CALL_OVERHEAD_ROWS = 512;

/** Bounds the search for the cheapest cut. */
const TASKS_MAX = 1024;

/** A single task of at most so many padded rows is padded to four tasks, to share their shapes. */
const LONE_TASK_ROWS_MAX = 1024;

/** Fewer tasks may be of one size by chance, and are padded like others. */
const ALIKE_TASKS_MIN = 4;

/**
 * Cuts the tasks, sorted by size, into consecutive groups at the least cost: a group costs its padded
 * rows plus `CALL_OVERHEAD_ROWS`. A group has at most `rowsMax` padded rows, unless it is a single
 * task. Between cuts of equal cost, the one with larger last groups is taken. Tasks that are all of
 * one size, as in k-shot training, are not padded, since their shapes are few anyway.
 *
 */
export function microBatchesOf(tasks: readonly TaskSize[], rowsMax: number): MicroBatch[] {
  if (areAlike(tasks)) return alikeMicroBatchesOf(tasks, rowsMax);
  const sorted = tasks
    .map(({ supportRowCount, queryRowCount }, place) => ({
      place,
      support: rowExtent(supportRowCount),
      query: rowExtent(queryRowCount),
    }))
    .sort((a, b) => a.support - b.support || a.query - b.query || a.place - b.place);
  const queries = Int32Array.from(sorted, ({ query }) => query);
  const costs = new Float64Array(sorted.length + 1).fill(Infinity);
  const starts = new Int32Array(sorted.length + 1);
  costs[0] = 0;
  for (let end = 1; end <= sorted.length; end += 1) {
    // Sorted, so the last task has the largest support extent.
    const { support } = at(sorted, end - 1);
    let query = 0;
    let least = Infinity;
    for (let start = end - 1; start >= 0 && end - start <= TASKS_MAX; start -= 1) {
      query = Math.max(query, int32At(queries, start));
      const ofTask = support + query;
      const extent =
        end - start === 1 ? taskExtent(1, ofTask, rowsMax) : int32At(TASK_EXTENTS, end - start);
      const rowCount = extent * ofTask;
      if (rowCount > rowsMax && end - start > 1) break;
      const cost = float64At(costs, start) + CALL_OVERHEAD_ROWS + rowCount;
      if (cost <= least) {
        least = cost;
        starts[end] = start;
      }
    }
    costs[end] = least;
  }
  const batches: MicroBatch[] = [];
  for (let end = sorted.length; end > 0; end = at(starts, end)) {
    const group = sorted.slice(starts[end], end);
    const supportExtent = Math.max(...group.map(({ support }) => support));
    const queryExtent = Math.max(...group.map(({ query }) => query));
    const taskCount = taskExtent(group.length, supportExtent + queryExtent, rowsMax);
    const taskPlaces = group.map(({ place }) => place);
    const rowCount = taskPlaces.reduce((sum, place) => sum + rowCountOf(at(tasks, place)), 0);
    batches.push({
      ...{ taskPlaces, taskCount, supportExtent, queryExtent },
      flatExtent: shareExtent(rowCount, taskCount * (supportExtent + queryExtent)),
    });
  }
  return batches.reverse();
}

function areAlike(tasks: readonly TaskSize[]): boolean {
  const [first] = tasks;
  return (
    first !== undefined &&
    tasks.length >= ALIKE_TASKS_MIN &&
    rowCountOf(first) > 0 &&
    tasks.every(
      ({ supportRowCount, queryRowCount }) =>
        supportRowCount === first.supportRowCount && queryRowCount === first.queryRowCount,
    )
  );
}

/** Groups with about the same number of tasks each. */
function alikeMicroBatchesOf(tasks: readonly TaskSize[], rowsMax: number): MicroBatch[] {
  const { supportRowCount: supportExtent = 0, queryRowCount: queryExtent = 0 } = tasks[0] ?? {};
  const rowExtent = supportExtent + queryExtent;
  const taskCountMax = Math.min(TASKS_MAX, Math.max(1, Math.floor(rowsMax / rowExtent)));
  const groupCount = Math.ceil(tasks.length / taskCountMax);
  return Array.from({ length: groupCount }, (_, group): MicroBatch => {
    const start = Math.floor((group * tasks.length) / groupCount);
    const end = Math.floor(((group + 1) * tasks.length) / groupCount);
    return {
      taskPlaces: Array.from({ length: end - start }, (__, index) => start + index),
      taskCount: end - start,
      ...{ supportExtent, queryExtent },
      flatExtent: (end - start) * rowExtent,
    };
  });
}

/**
 * Cuts tasks in their order, so that the rows of a group, laid end to end and padded, are at most
 * `rowsMax`. This is for computations without a task axis, where large tasks add no padding to small ones.
 */
export function flatMicroBatchesOf(tasks: readonly TaskSize[], rowsMax: number): MicroBatch[] {
  const groups: { readonly taskPlaces: number[]; rowCount: number }[] = [];
  for (const [place, task] of tasks.entries()) {
    const rowCount = rowCountOf(task);
    const last = groups.at(-1);
    if (last === undefined || flatExtent(last.rowCount + rowCount) > rowsMax)
      groups.push({ taskPlaces: [place], rowCount });
    else {
      last.taskPlaces.push(place);
      last.rowCount += rowCount;
    }
  }
  return groups.map(({ taskPlaces, rowCount }) => ({
    taskPlaces,
    taskCount: extentOnLadder(taskPlaces.length, 16, 4),
    ...{ supportExtent: 0, queryExtent: 0 },
    flatExtent: flatExtent(rowCount),
  }));
}

/** The rows of a micro-batch as they are computed, by task or flat. */
export function paddedRowCountOf(microBatch: MicroBatch): number {
  const { taskCount, supportExtent, queryExtent, flatExtent } = microBatch;
  const rowExtent = supportExtent + queryExtent;
  return rowExtent === 0 ? flatExtent : taskCount * rowExtent;
}

function rowCountOf({ supportRowCount, queryRowCount }: TaskSize): number {
  return supportRowCount + queryRowCount;
}

/** Padded rows per task: 0, then 8 and its doublings. */
export function rowExtent(rowCount: number): number {
  return rowCount === 0 ? 0 : extentOnLadder(rowCount, 8, 2);
}

/** Padded flat rows of whole jobs, which differ little in size: 0, 64, then four steps per doubling. */
export function flatExtent(rowCount: number): number {
  if (rowCount === 0) return 0;
  const half = extentOnLadder(rowCount, 64, 2) / 2;
  const rung = half / 4;
  return rowCount <= 64 ? 64 : half + rung * Math.ceil((rowCount - half) / rung);
}

/**
 * Padded flat rows of tasks that also lie by task on `paddedRowCount` places: a multiple of a quarter
 * of these, since every further extent is another shape to capture.
 */
function shareExtent(rowCount: number, paddedRowCount: number): number {
  const quarter = paddedRowCount / 4;
  return quarter === 0 ? 0 : quarter * Math.ceil(rowCount / quarter);
}

/**
 * Padded tasks: 4, 16, then doublings. A group just above one of these is cut or merged instead. A
 * large task in a group of its own is not padded.
 *
 * @param rowCount padded rows of each task.
 */
export function taskExtent(taskCount: number, rowCount: number, rowsMax: number): number {
  if (taskCount === 1 && 4 * rowCount > Math.min(LONE_TASK_ROWS_MAX, rowsMax)) return 1;
  return taskCount <= 16 ? extentOnLadder(taskCount, 4, 4) : extentOnLadder(taskCount, 16, 2);
}

/** By their number, the padded tasks of a group of several. */
const TASK_EXTENTS = Int32Array.from({ length: TASKS_MAX + 1 }, (_, taskCount) =>
  taskExtent(taskCount, 0, 0),
);

/** Padded rows of a row pack. Jobs of one run differ little, and this padding only costs a copy. */
export function packExtent(rowCount: number): number {
  return rowCount <= 4096 ? extentOnLadder(rowCount, 256, 4) : extentOnLadder(rowCount, 4096, 2);
}

/**
 * Padded distinct bags: 16, then powers of four above it, but no more than there can be. One bag is spare.
 *
 * @param countMax bags of all padded rows.
 */
export function bagExtent(bagCount: number, countMax: number): number {
  return Math.min(extentOnLadder(bagCount + 1, 16, 4), countMax + 1);
}

/**
 * Padded members per padded bag: a half, then powers of four above it, but no more than a bag can
 * have. Data with bags of similar size then has one shape or two.
 */
export function memberDensity(memberCount: number, extent: number, lengthMax: number): number {
  return Math.min(extentOnLadder(memberCount / extent, 0.5, 4), lengthMax);
}

/** The least of `lowest`, `lowest * ratio`, ... that is at least `count`. */
function extentOnLadder(count: number, lowest: number, ratio: number): number {
  let extent = lowest;
  while (extent < count) extent *= ratio;
  return extent;
}
