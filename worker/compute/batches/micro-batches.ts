/**
 * Cuts a job's tasks into micro-batches: groups of tasks of about one size that are computed at
 * once, padded to few distinct shapes. Depends on the job alone, never on what was computed before,
 * since the grouping decides in which order gradients are summed. No tensors here.
 */

/** Rows of one task by the roles they are computed in. */
export interface TaskSize {
  readonly supportRowCount: number;
  readonly queryRowCount: number;
}

/** Of which every padded number of a task's rows is a multiple: 1, 2, 4 or 8. */
export interface RowMultiples {
  readonly support: number;
  readonly query: number;
}

/** The extents of a micro-batch, padding included; rows lie by task, `[taskCount, extent]`, or flat. */
export interface MicroBatch {
  /** Places in the job of its tasks, smallest task first. */
  readonly taskPlaces: readonly number[];
  /** At least `taskPlaces.length`: what is beyond are tasks without rows and weight. */
  readonly taskCount: number;
  /** Support rows of each task; 0 when no task has any. */
  readonly supportExtent: number;
  readonly queryExtent: number;
  /** Places of all rows of all tasks laid end to end; 0 where nothing is read so. */
  readonly flatExtent: number;
}

/**
 * Rows that cost as much as a micro-batch costs whatever its rows: preparing its arrays, the call,
 * some hundred graph nodes. Makes groups merge where padding is cheaper than one more call.
 */
export const ROWS_WORTH_A_CALL = 512;

/** Bounds the search for the cheapest cut. */
const TASKS_MAX = 1024;

/** Padded rows up to which a task alone is padded as four tasks are, to share their shapes. */
const LONE_TASK_ROWS_MAX = 1024;

/** Fewer tasks of one size are padded like others: they may be so by chance. */
const ALIKE_TASKS_MIN = 4;

/**
 * The cheapest cut of the tasks, sorted by size, into consecutive groups: each group costs its
 * padded rows and `ROWS_WORTH_A_CALL`. A group has at most `rowsMax` padded rows, unless it is one
 * task. Of equally cheap cuts the one with the larger last groups is taken. Tasks that are all of one
 * size, as those of k-shot training are, keep it and their number: their shapes are few without padding.
 *
 * @param rowsBeside padded rows that are read for each task beside its own.
 */
export function microBatchesOf(
  tasks: readonly TaskSize[],
  rowsMax: number,
  rowMultiples: RowMultiples = { support: 1, query: 1 },
  rowsBeside = 0,
): MicroBatch[] {
  if (areAlike(tasks)) return alikeMicroBatchesOf(tasks, rowsMax, rowMultiples, rowsBeside);
  const sorted = tasks
    .map(({ supportRowCount, queryRowCount }, place) => ({
      place,
      support: rowExtent(supportRowCount),
      query: rowExtent(queryRowCount),
    }))
    .sort((a, b) => a.support - b.support || a.query - b.query || a.place - b.place);
  const costs = new Float64Array(sorted.length + 1).fill(Infinity);
  const starts = new Int32Array(sorted.length + 1);
  costs[0] = 0;
  for (let end = 1; end <= sorted.length; end += 1) {
    // Sorted, so the last task has the largest support extent.
    const support = sorted[end - 1]?.support ?? 0;
    let query = 0;
    for (let start = end - 1; start >= 0 && end - start <= TASKS_MAX; start -= 1) {
      query = Math.max(query, sorted[start]?.query ?? 0);
      const ofTask = support + query + rowsBeside;
      const rowCount = taskExtent(end - start, ofTask, rowsMax) * ofTask;
      if (rowCount > rowsMax && end - start > 1) break;
      const cost = (costs[start] ?? 0) + ROWS_WORTH_A_CALL + rowCount;
      if (cost <= (costs[end] ?? 0)) {
        costs[end] = cost;
        starts[end] = start;
      }
    }
  }
  const batches: MicroBatch[] = [];
  for (let end = sorted.length; end > 0; end = starts[end] ?? 0) {
    const group = sorted.slice(starts[end], end);
    const supportExtent = Math.max(...group.map(({ support }) => support));
    const queryExtent = Math.max(...group.map(({ query }) => query));
    const taskCount = taskExtent(group.length, supportExtent + queryExtent + rowsBeside, rowsMax);
    const taskPlaces = group.map(({ place }) => place);
    const rowCount = taskPlaces.reduce((sum, place) => sum + rowCountOf(tasks[place]), 0);
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
    tasks.length >= ALIKE_TASKS_MIN &&
    rowCountOf(first) > 0 &&
    tasks.every(
      ({ supportRowCount, queryRowCount }) =>
        supportRowCount === first?.supportRowCount && queryRowCount === first.queryRowCount,
    )
  );
}

/** Groups of about one number of tasks. */
function alikeMicroBatchesOf(
  tasks: readonly TaskSize[],
  rowsMax: number,
  rowMultiples: RowMultiples,
  rowsBeside: number,
): MicroBatch[] {
  const { supportRowCount = 0, queryRowCount = 0 } = tasks[0] ?? {};
  const supportExtent = rowMultiples.support * Math.ceil(supportRowCount / rowMultiples.support);
  const queryExtent = rowMultiples.query * Math.ceil(queryRowCount / rowMultiples.query);
  const rowExtent = supportExtent + queryExtent;
  const taskCountMax = Math.min(
    TASKS_MAX,
    Math.max(1, Math.floor(rowsMax / (rowExtent + rowsBeside))),
  );
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
 * Tasks in their order, cut where their rows laid end to end, padding included, would be more than
 * `rowsMax`: for what needs no task axis, where large tasks cost small ones nothing.
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

function rowCountOf(task: TaskSize | undefined): number {
  return (task?.supportRowCount ?? 0) + (task?.queryRowCount ?? 0);
}

/** Rows per task: 0, then 8 and its doublings. */
export function rowExtent(rowCount: number): number {
  return rowCount === 0 ? 0 : extentOnLadder(rowCount, 8, 2);
}

/** Flat rows of whole jobs, which differ little in size: 0, 64, and four rungs to a doubling. */
export function flatExtent(rowCount: number): number {
  if (rowCount === 0) return 0;
  const half = extentOnLadder(rowCount, 64, 2) / 2;
  const rung = half / 4;
  return rowCount <= 64 ? 64 : half + rung * Math.ceil((rowCount - half) / rung);
}

/**
 * Flat rows of tasks that also lie by task on `paddedRowCount` places: quarters of these, since
 * every further extent is another shape of all that is computed at once.
 */
function shareExtent(rowCount: number, paddedRowCount: number): number {
  const quarter = paddedRowCount / 4;
  return quarter === 0 ? 0 : quarter * Math.ceil(rowCount / quarter);
}

/**
 * 4, 16, then doublings: a group that falls just short of a rung is cut or merged instead. A large
 * task that is alone stays alone.
 *
 * @param rowCount padded rows of each task.
 */
export function taskExtent(taskCount: number, rowCount: number, rowsMax: number): number {
  if (taskCount === 1 && 4 * rowCount > Math.min(LONE_TASK_ROWS_MAX, rowsMax)) return 1;
  return taskCount <= 16 ? extentOnLadder(taskCount, 4, 4) : extentOnLadder(taskCount, 16, 2);
}

/** Rows of a row pack: jobs of one run differ little, and padding here is copied and no more. */
export function packExtent(rowCount: number): number {
  return rowCount <= 4096 ? extentOnLadder(rowCount, 256, 4) : extentOnLadder(rowCount, 4096, 2);
}

/**
 * Distinct bags: 16 and its fours, one of them nobody's, and no more than there can be.
 *
 * @param countMax bags of all padded rows.
 */
export function bagExtent(bagCount: number, countMax: number): number {
  return Math.min(extentOnLadder(bagCount + 1, 16, 4), countMax + 1);
}

/**
 * Members for each padded bag, so that data with bags of about one size has one shape or two: a
 * half, then by fours, and no more than a bag can have.
 */
export function memberDensity(memberCount: number, extent: number, lengthMax: number): number {
  return Math.min(extentOnLadder(memberCount / extent, 0.5, 4), lengthMax);
}

/** The least of `lowest`, `lowest * ratio`, ... that holds `count`. */
function extentOnLadder(count: number, lowest: number, ratio: number): number {
  let extent = lowest;
  while (extent < count) extent *= ratio;
  return extent;
}
