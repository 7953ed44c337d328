/**
 * Decides which tasks an outer step trains on.
 * Pure in (seed, outer step, task list, config). The number of workers is not an input.
 */

import { at } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { randomStream } from '../../shared/base/random.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { sizeBucketIndexOf } from '../scoring/size-buckets.js';
import { firstAbove, rowDrawer, type DrawnTask } from './row-draws.js';

type SamplingName = TrainingConfig['sampling'];
type DrawnByShare = Exclude<SamplingName, 'uniform' | 'sequential'>;

export type SamplingRule = Pick<
  TrainingConfig,
  'sampling' | 'tasksPerOuterStep' | 'rowsPerOuterStep'
> & {
  /** Whether tasks have all their support rows where rows are drawn; they have, if absent. */
  readonly keepsSupport?: boolean;
};

export type TaskSampler = (outerStep: number) => DrawnTask[];

export interface Sampling {
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
 * Batches of trunk rows are drawn beside the tasks (`trunkBatchDrawer`). With `rowsPerOuterStep`, rows are drawn
 * instead, of tasks and batches alike (`row-draws.ts`).
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
  const { rowsPerOuterStep, keepsSupport = true } = rule;
  if (rowsPerOuterStep !== undefined)
    return rowDrawer(seed, [...tasks, ...trunkBatches], { rowsPerOuterStep, keepsSupport });
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
export function runningTotals(order: Int32Array, shares: Float64Array): Float64Array {
  let total = 0;
  return Float64Array.from(order, (place) => (total += at(shares, place)));
}

/**
 * Systematic sampling with unequal shares (Madow, 1949, "On the theory of systematic sampling, II"): the places,
 * ascending, on which `drawCount` equally spaced points with one common offset fall. For an offset that is uniform in
 * [0, 1), the expected number of draws of a place is `drawCount * its share / the total`. For any single
 * offset it is that number rounded down or up.
 */
export function systematicDraws(totals: Float64Array, drawCount: number, offset: number): number[] {
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
  return new QianmoError({
    kind: 'data',
    what: 'the task store has no training tasks',
    expected: 'at least one task of the split `train`',
    cure: 'lower the minimum rows in data.rowSplit or the shares in data.taskSplit, then prepare again',
  });
}
