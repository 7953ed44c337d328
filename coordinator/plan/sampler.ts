/**
 * Decides which tasks an outer step trains on.
 * Pure in (seed, outer step, task list, config). The number of workers is not an input.
 */

import { at } from '../../shared/base/arrays.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { sizeBucketIndexOf } from '../scoring/size-buckets.js';
import { wordAt } from '../../shared/base/addressed-bits.js';

type SamplingName = TrainingConfig['sampling'];
type DrawnByShare = Exclude<SamplingName, 'uniform' | 'sequential'>;

export type SamplingRule = Pick<
  TrainingConfig,
  'sampling' | 'tasksPerOuterStep' | 'rowsPerOuterStep'
> & {
  /** Whether rows are drawn in episodes, for tasks that adapt; they are, if absent. */
  readonly inEpisodes?: boolean;
  /** Whether the rows of an episode are in order of time, as support and query rows are. */
  readonly inTime?: boolean;
};

type TaskSampler = (outerStep: number) => DrawnTask[];

interface Sampling {
  readonly seed: number;
  readonly tasks: readonly TaskEntry[];
  readonly rule: SamplingRule;
  readonly trunkBatches: readonly TaskEntry[];
}

/** Epochs kept at once: an outer step may end one and begin the next. */
const KEPT_COUNT_MAX = 2;

/**
 * A sampler over the training tasks, given in catalog order. It remembers only the permutations of the
 * latest epochs, and its result for an outer step does not depend on earlier calls. With N tasks and n
 * draws per outer step, the expected number of draws of a task in one outer step is
 *
 * - `uniform`: n / N. Each epoch is one permutation of the tasks, and epochs follow each other, so that
 *   the numbers of draws of any two tasks never differ by more than one.
 * - `sequential`: n / N on average, without randomness: the catalog from its first task to its last,
 *   again and again. The catalog is in the order of the logs when `data.grouped` is set, else in
 *   the order of the keys.
 * - `proportional`: n * rows / all rows.
 * - `square-root`: n * sqrt(rows) / the sum of them over all tasks.
 * - `size-buckets`: n / (B * the number of tasks in its bucket), B the number of buckets that hold a
 *   task: an empty bucket's share goes to the others in equal parts.
 *
 * The last three rules are systematic sampling: the number of draws of a task in one outer step is its expected
 * number rounded down or up, so a large task may be drawn more than once.
 *
 * Batches of trunk rows are drawn beside the tasks (`trunkBatchDrawer`). With `rowsPerOuterStep`, rows or episodes of
 * rows are drawn instead, of tasks and batches alike.
 *
 * @throws QianmoError of kind `data` if there is no task to train on.
 */
export function taskSampler(
  seed: number,
  tasks: readonly TaskEntry[],
  rule: SamplingRule,
  trunkBatches: readonly TaskEntry[] = [],
): TaskSampler {
  if (tasks.length === 0) throw nothingToTrainOn();
  const { rowsPerOuterStep, inEpisodes = true, inTime = false } = rule;
  if (rowsPerOuterStep !== undefined) {
    const read = [...tasks, ...trunkBatches];
    return inEpisodes
      ? episodeDrawer(seed, read, { rowsPerOuterStep, inTime })
      : rowDrawer(seed, read, rowsPerOuterStep);
  }
  const drawBatches = trunkBatchDrawer(seed, { tasks, trunkBatches }, rule);
  const drawTasks = taskDrawer(seed, tasks, rule);
  return (outerStep) => [...drawTasks(outerStep), ...drawBatches(outerStep)];
}

type Drawer = (outerStep: number) => TaskEntry[];

function taskDrawer(seed: number, tasks: readonly TaskEntry[], rule: SamplingRule): Drawer {
  const { sampling, tasksPerOuterStep } = rule;
  const inOrder = Int32Array.from(tasks.keys());
  const shuffled = (epoch: number): Int32Array =>
    randomStream(seed, 'task order', epoch).shuffle(inOrder.slice());
  if (!isDrawnByShare(sampling)) {
    const orderAt = latestKept(sampling === 'sequential' ? () => inOrder : shuffled);
    return (outerStep) =>
      Array.from({ length: tasksPerOuterStep }, (_, draw) => {
        const position = outerStep * tasksPerOuterStep + draw;
        const order = orderAt(Math.floor(position / tasks.length));
        return at(tasks, at(order, position % tasks.length));
      });
  }
  const shares = drawSharesOf(tasks, sampling);
  // A new order of the tasks each epoch, so that neighbours on the running total change.
  const epochAt = latestKept((epoch) => {
    const order = shuffled(epoch);
    return { order, totals: runningTotals(order, shares) };
  });
  return (outerStep) => {
    const { order, totals } = epochAt(Math.floor((outerStep * tasksPerOuterStep) / tasks.length));
    const offset = randomStream(seed, 'row sampling', outerStep).uniform();
    return systematicDraws(totals, tasksPerOuterStep, offset).map((place) =>
      at(tasks, at(order, place)),
    );
  };
}

function latestKept<Value>(make: (number: number) => Value): (number: number) => Value {
  const kept = new LruCache<number, Value>({ countMax: KEPT_COUNT_MAX });
  return (number) => {
    const known = kept.get(number);
    if (known !== undefined) return known;
    const made = make(number);
    kept.put(number, made);
    return made;
  };
}

/** The edges in support rows that `evaluate` uses by default. */
const SIZE_BUCKET_EDGES = [10, 30, 100, 300];

function isDrawnByShare(sampling: SamplingName): sampling is DrawnByShare {
  return sampling !== 'uniform' && sampling !== 'sequential';
}

/** How often tasks are drawn relative to each other: one positive number per task, `[taskCount]`. */
function drawSharesOf(tasks: readonly TaskEntry[], sampling: DrawnByShare): Float64Array {
  if (sampling === 'square-root')
    return Float64Array.from(tasks, (task) => Math.sqrt(rowCountOf(task)));
  if (sampling !== 'size-buckets') return Float64Array.from(tasks, rowCountOf);
  const bucketOf = (task: TaskEntry): number =>
    sizeBucketIndexOf(SIZE_BUCKET_EDGES, task.supportRowCount);
  const taskCounts = new Map<number, number>();
  for (const task of tasks)
    taskCounts.set(bucketOf(task), (taskCounts.get(bucketOf(task)) ?? 0) + 1);
  return Float64Array.from(tasks, (task) => 1 / (taskCounts.get(bucketOf(task)) ?? 1));
}

function rowCountOf(task: TaskEntry): number {
  return task.supportRowCount + task.queryRowCount;
}

/** The running total of `shares` in the order given by `order`, summed in float64. */
function runningTotals(order: Int32Array, shares: Float64Array): Float64Array {
  let total = 0;
  return Float64Array.from(order, (place) => (total += at(shares, place)));
}

/**
 * Systematic sampling with unequal shares (Madow, 1949, "On the theory of systematic sampling, II"): the places,
 * ascending, on which `drawCount` equally spaced points with one common offset fall. For an offset that is uniform in
 * [0, 1), the expected number of draws of a place is `drawCount * its share / the total`. For any single
 * offset it is that number rounded down or up.
 */
function systematicDraws(totals: Float64Array, drawCount: number, offset: number): number[] {
  const total = at(totals, totals.length - 1);
  return Array.from({ length: drawCount }, (_, draw) =>
    firstAbove(totals, ((offset + draw) / drawCount) * total),
  );
}

/**
 * Draws batches of trunk rows so often that their rows are read as often as the query rows of tasks are on average.
 * With B batches and an expected share s of all query rows that the tasks of an outer step read, B s batches are
 * drawn in an outer step on average: those from floor(t B s) to floor((t + 1) B s) at outer step t, one
 * permutation of the batches after the other. With N tasks, s is tasksPerOuterStep / N where all tasks are drawn
 * alike. With sampling: sequential, the order is that of the catalog.
 */
function trunkBatchDrawer(
  seed: number,
  { tasks, trunkBatches }: Pick<Sampling, 'tasks' | 'trunkBatches'>,
  rule: SamplingRule,
): Drawer {
  const count = trunkBatches.length;
  if (count === 0) return () => [];
  const perOuterStep = count * queryShareOf(tasks, rule);
  const inOrder = Int32Array.from(trunkBatches.keys());
  const orderAt = latestKept((epoch) =>
    rule.sampling === 'sequential'
      ? inOrder
      : randomStream(seed, 'trunk batch order', epoch).shuffle(inOrder.slice()),
  );
  return (outerStep) => {
    const first = Math.floor(outerStep * perOuterStep);
    const end = Math.floor((outerStep + 1) * perOuterStep);
    return Array.from({ length: end - first }, (_, draw) => {
      const order = orderAt(Math.floor((first + draw) / count));
      return at(trunkBatches, at(order, (first + draw) % count));
    });
  };
}

/** The share of all query rows that the tasks of an outer step read on average; above 1 where they read rows twice. */
function queryShareOf(
  tasks: readonly TaskEntry[],
  { sampling, tasksPerOuterStep }: SamplingRule,
): number {
  const alike = tasksPerOuterStep / tasks.length;
  if (!isDrawnByShare(sampling)) return alike;
  const shares = drawSharesOf(tasks, sampling);
  let [drawn, all, shareTotal] = [0, 0, 0];
  for (const [place, { queryRowCount }] of tasks.entries()) {
    drawn += at(shares, place) * queryRowCount;
    all += queryRowCount;
    shareTotal += at(shares, place);
  }
  return all === 0 ? alike : (tasksPerOuterStep * drawn) / (shareTotal * all);
}

function nothingToTrainOn(): QianmoError {
  return errorOf('data', 'the task store has no training tasks', {
    expected: 'at least one task of the split `train`',
    cure: 'lower the minimum rows in data.rowSplit or the shares in data.taskSplit, then prepare again',
  });
}

/** A task of which more rows are drawn is there several times, so that each part fits into a job. */
const DRAWN_ROWS_PER_TASK_MAX = 768;

export interface DrawnTask extends TaskEntry {
  /** The places of its rows that were drawn; absent where all of its rows are read. */
  readonly drawnRows?: readonly number[];
  /** In an episode, the number of drawn rows that are support rows: the first ones. */
  readonly drawnSupportCount?: number;
}

/** Rows of an episode; more where a task has many support rows. */
const EPISODE_ROWS_MIN = 64;
const EPISODE_ROWS_PER_SUPPORT_ROW = 3;

/** At least a third of an episode is there to be predicted. */
const SUPPORT_SHARE_MAX = 2 / 3;
/** Half of the episodes of a task with many support rows have no more of them than this, since its first rows count too. */
const FEW_SUPPORT_ROWS = 64;

/**
 * An episode is some rows of one task, drawn from its support and query rows alike. The first k of them are its support
 * rows, k from 0 to twice as many as the task has. So a task adapts on other rows in each epoch, on none to many of them,
 * and no support set can be learned by heart. An epoch has each row in one episode, and epochs follow each other. Where the
 * support rows of a task are its earlier ones, so are those of an episode: the click rate may change over an adgroup's life.
 */
function episodeDrawer(
  seed: number,
  tasks: readonly TaskEntry[],
  { rowsPerOuterStep, inTime }: { readonly rowsPerOuterStep: number; readonly inTime: boolean },
): (outerStep: number) => DrawnTask[] {
  const ends = runningTotals(
    Int32Array.from(tasks.keys()),
    Float64Array.from(tasks, episodeCountOf),
  );
  const episodeCount = at(ends, tasks.length - 1);
  const rowCount = tasks.reduce((sum, task) => sum + rowCountOf(task), 0);
  const drawCount = Math.max(1, Math.round((rowsPerOuterStep * episodeCount) / rowCount));
  const orderAt = latestKept((epoch) =>
    randomOrder(episodeCount, randomStream(seed, 'episode order', epoch)),
  );
  return (outerStep) =>
    Array.from({ length: drawCount }, (_, draw) => {
      const position = outerStep * drawCount + draw;
      const epoch = Math.floor(position / episodeCount);
      const episode = orderAt(epoch)(position % episodeCount);
      const place = firstAbove(ends, episode);
      const part = episode - (place === 0 ? 0 : at(ends, place - 1));
      return episodeOf(seed, at(tasks, place), { epoch, part, inTime });
    });
}

function episodeCountOf(task: TaskEntry): number {
  const rowCount = rowCountOf(task);
  const rows = Math.max(EPISODE_ROWS_MIN, EPISODE_ROWS_PER_SUPPORT_ROW * task.supportRowCount);
  return Math.max(1, Math.round(rowCount / rows), Math.ceil(rowCount / DRAWN_ROWS_PER_TASK_MAX));
}

interface EpisodePlace {
  readonly epoch: number;
  /** The number of the episode among those of its task. */
  readonly part: number;
  readonly inTime: boolean;
}

function episodeOf(
  seed: number,
  task: TaskEntry,
  { epoch, part, inTime }: EpisodePlace,
): DrawnTask {
  const { taskIndex, supportRowCount } = task;
  const rowCount = rowCountOf(task);
  const count = episodeCountOf(task);
  const order = randomOrder(rowCount, randomStream(seed, 'episode rows', epoch, taskIndex));
  const first = Math.floor((part * rowCount) / count);
  const end = Math.floor(((part + 1) * rowCount) / count);
  const support = randomStream(seed, 'episode support', epoch, taskIndex, part);
  const most = Math.min(2 * supportRowCount, Math.floor(SUPPORT_SHARE_MAX * (end - first)));
  const isOfFew = support.below(2) === 0;
  const rows = Array.from({ length: end - first }, (_, row) => order(first + row));
  return {
    ...task,
    drawnRows: inTime ? rows.sort((a, b) => a - b) : rows,
    drawnSupportCount: support.below((isOfFew ? Math.min(most, FEW_SUPPORT_ROWS) : most) + 1),
  };
}

/**
 * Each epoch reads each row once, in an order of its own (`epochOrder`), and epochs follow each other. The tasks of an outer step are
 * in the order of the list, each once, and again where more of its rows were drawn than a leaf can name.
 */
function rowDrawer(
  seed: number,
  tasks: readonly TaskEntry[],
  rowsPerOuterStep: number,
): (outerStep: number) => DrawnTask[] {
  const ends = runningTotals(Int32Array.from(tasks.keys()), Float64Array.from(tasks, rowCountOf));
  const rowCount = at(ends, tasks.length - 1);
  return (outerStep) => {
    const first = outerStep * rowsPerOuterStep;
    let epoch = -1;
    let order: (place: number) => number = () => 0;
    const drawn = new Map<number, number[]>();
    for (let draw = first; draw < first + rowsPerOuterStep; draw += 1) {
      const ofDraw = Math.floor(draw / rowCount);
      if (ofDraw !== epoch) {
        epoch = ofDraw;
        order = epochOrder({ seed, epoch, count: rowCount });
      }
      const row = order(draw % rowCount);
      const task = firstAbove(ends, row);
      const start = task === 0 ? 0 : at(ends, task - 1);
      const rows = drawn.get(task);
      if (rows === undefined) drawn.set(task, [row - start]);
      else rows.push(row - start);
    }
    return [...drawn]
      .sort(([a], [b]) => a - b)
      .flatMap(([task, rows]) =>
        partsOf(rows.sort((a, b) => a - b)).map((drawnRows) => ({ ...at(tasks, task), drawnRows })),
      );
  };
}

function partsOf(rows: readonly number[]): (readonly number[])[] {
  const count = Math.ceil(rows.length / DRAWN_ROWS_PER_TASK_MAX);
  return Array.from({ length: count }, (_, part) =>
    rows.slice(part * DRAWN_ROWS_PER_TASK_MAX, (part + 1) * DRAWN_ROWS_PER_TASK_MAX),
  );
}

/** The place of the first total above the point; the last place if rounding put the point at the end. */
function firstAbove(totals: Float64Array, point: number): number {
  let [low, high] = [0, totals.length - 1];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (at(totals, middle) > point) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * The order in which an epoch reads rows: a random order of all of them where they are few. Many rows are read window by
 * window, each of randomly drawn runs of adjacent rows, and in a random order within a window, so that the outer steps
 * of a window read again what the cache of record batches holds. Pure in (seed, epoch, count).
 */

interface Windows {
  /** The rows of one run: about a record batch of the task store. */
  readonly runRows: number;
  /** The rows of a window, up to those of one run more. */
  readonly windowRows: number;
}

/** A window of rows of 200 bytes is 100 MB, of a cache of 256 MiB. */
const WINDOWS: Windows = { runRows: 4_096, windowRows: 524_288 };

/** Returns the row, from 0 to `count` - 1, at each place of an epoch. Neighbouring places are the fastest. */
export function epochOrder(
  { seed, epoch, count }: { readonly seed: number; readonly epoch: number; readonly count: number },
  { runRows, windowRows }: Windows = WINDOWS,
): (place: number) => number {
  if (count <= windowRows) return randomOrder(count, randomStream(seed, 'row order', epoch));
  const runCount = Math.floor(count / runRows);
  const windowCount = Math.ceil(count / windowRows);
  const runs = randomOrder(runCount, randomStream(seed, 'row windows', epoch));
  const firstRunOf = (window: number): number => Math.floor((window * runCount) / windowCount);
  const openWindow = (window: number): RowWindow => {
    const [first, end] = [firstRunOf(window), firstRunOf(window + 1)];
    // Rows after the last whole run are in the last window.
    const rest = window === windowCount - 1 ? count - runCount * runRows : 0;
    const rowCount = (end - first) * runRows + rest;
    const starts = Array.from({ length: end - first }, (_, run) => runs(first + run) * runRows);
    return {
      window,
      first: first * runRows,
      starts: [...starts, runCount * runRows],
      order: randomOrder(rowCount, randomStream(seed, 'row order', epoch, window)),
    };
  };
  let open: RowWindow | null = null;
  return (place) => {
    const run = Math.min(Math.floor(place / runRows), runCount - 1);
    const window = Math.floor(((run + 1) * windowCount - 1) / runCount);
    if (open?.window !== window) open = openWindow(window);
    const row = open.order(place - open.first);
    return at(open.starts, Math.floor(row / runRows)) + (row % runRows);
  };
}

interface RowWindow {
  readonly window: number;
  /** The place of its first row in the epoch. */
  readonly first: number;
  /** The first row of each of its runs, then the row after all whole runs. */
  readonly starts: readonly number[];
  readonly order: (place: number) => number;
}

const ROUNDS = 4;

/**
 * A random order of very many numbers in constant memory: a Feistel network over the smallest power of 4 that holds
 * them is a permutation, and numbers that fall outside go through it again (Black and Rogaway, 2002, "Ciphers with arbitrary finite
 * domains").
 *
 * @returns the number at each place of a permutation of 0 to `count` - 1, for a count of at most 2^52.
 */
function randomOrder(count: number, random: RandomStream): (place: number) => number {
  let half = 1;
  while (half * half < count) half *= 2;
  const keys = Array.from({ length: ROUNDS }, () => random.uint32());
  const permuted = (number: number): number => {
    let [left, right] = [Math.floor(number / half), number % half];
    for (let round = 0; round < ROUNDS; round += 1)
      [left, right] = [right, (left + (wordAt(at(keys, round), right) % half)) % half];
    return left * half + right;
  };
  return (place) => {
    let number = permuted(place);
    while (number >= count) number = permuted(number);
    return number;
  };
}
