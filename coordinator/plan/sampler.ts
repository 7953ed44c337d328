/**
 * Decides which tasks an outer step trains on.
 * Pure in (seed, outer step, task list, config). The number of workers is not an input.
 */

import type { TrainingConfig } from '../../shared/config/training-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { randomStream } from '../../shared/base/random.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { curriculumOf, type CurriculumStage } from './curriculum.js';
import { type DrawnTask, rowDrawer } from './row-draws.js';
import { sizeBucketIndexOf } from '../scoring/size-buckets.js';
import { at } from '../../shared/base/arrays.js';

export type SamplingRule = Pick<
  TrainingConfig,
  | 'sampling'
  | 'sizeBucketEdges'
  | 'curriculum'
  | 'outerSteps'
  | 'tasksPerOuterStep'
  | 'rowsPerOuterStep'
> & {
  /** Whether tasks have all their support rows where rows are drawn; they have, if absent. */
  readonly keepsSupport?: boolean;
};

/** Returns the tasks of an outer step. */
export type TaskSampler = (outerStep: number) => DrawnTask[];

/** The tasks that a run draws from, and how. */
export interface Sampling {
  readonly seed: number;
  /** In catalog order. */
  readonly tasks: readonly TaskEntry[];
  readonly rule: SamplingRule;
  readonly trunkBatches: readonly TaskEntry[];
}

/** One epoch's order of the tasks, and the running total of their shares in that order. */
interface Epoch {
  readonly order: Int32Array;
  readonly shareTotals: Float64Array;
}

/** Epochs and stages kept at once: an outer step may end one epoch and begin the next. */
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
 * Under a curriculum, all of this holds for the tasks that are eligible at the outer step, and a new
 * epoch begins when more tasks become eligible. The last three rules are systematic sampling: the number
 * of draws of a task in one outer step is its expected number rounded down or up, so a large task may be
 * drawn more than once.
 *
 * Batches of trunk rows are drawn beside the tasks (`trunkBatchDrawer`). With `rowsPerOuterStep`, rows are drawn
 * instead, of tasks and batches alike (`row-draws.ts`).
 *
 * @throws QianmoError of kind `data` if there is no task to train on, or if a curriculum goes by age and
 *   the store does not say when tasks were first seen.
 */
export function taskSampler(
  seed: number,
  tasks: readonly TaskEntry[],
  rule: SamplingRule,
  trunkBatches: readonly TaskEntry[] = [],
): TaskSampler {
  if (tasks.length === 0) throw nothingToTrainOn();
  const { rowsPerOuterStep, keepsSupport = true } = rule;
  if (rowsPerOuterStep !== undefined) {
    return rowDrawer(seed, [...tasks, ...trunkBatches], { rowsPerOuterStep, keepsSupport });
  }
  const drawBatches = trunkBatchDrawer(seed, { tasks, trunkBatches }, rule);
  const curriculum = curriculumOf(tasks, rule);
  const drawerOf = latestKept((index) => stageDrawer(seed, curriculum.stage(index), rule));
  return (outerStep) => [
    ...drawerOf(curriculum.stageAt(outerStep))(outerStep),
    ...drawBatches(outerStep),
  ];
}

type Drawer = (outerStep: number) => TaskEntry[];

function stageDrawer(seed: number, stage: CurriculumStage, rule: SamplingRule): Drawer {
  const shuffle = (epoch: number): Int32Array => shuffledOrder(seed, epoch, stage);
  if (!isDrawnByShare(rule.sampling)) return drawerInEpochs(stage, rule, shuffle);
  const shares = drawSharesOf(stage.tasks, rule.sampling, rule.sizeBucketEdges);
  return drawerByShare(seed, stage, rule, (epoch) => {
    const order = shuffle(epoch);
    return { order, shareTotals: runningTotals(order, shares) };
  });
}

function drawerInEpochs(
  { tasks, firstOuterStep }: CurriculumStage,
  { sampling, tasksPerOuterStep }: SamplingRule,
  shuffle: (epoch: number) => Int32Array,
): Drawer {
  const orderAt = latestKept(
    sampling === 'sequential' ? () => catalogOrder(tasks.length) : shuffle,
  );
  return (outerStep) =>
    Array.from({ length: tasksPerOuterStep }, (_, draw) => {
      const position = (outerStep - firstOuterStep) * tasksPerOuterStep + draw;
      const order = orderAt(Math.floor(position / tasks.length));
      return taskAt(tasks, order[position % tasks.length]);
    });
}

/** A new order of the tasks each epoch, so that neighbours on the running total change. */
function drawerByShare(
  seed: number,
  { tasks, firstOuterStep }: CurriculumStage,
  { tasksPerOuterStep }: SamplingRule,
  epochOf: (epoch: number) => Epoch,
): Drawer {
  const epochAt = latestKept(epochOf);
  return (outerStep) => {
    const { order, shareTotals } = epochAt(
      Math.floor(((outerStep - firstOuterStep) * tasksPerOuterStep) / tasks.length),
    );
    const offset = randomStream(seed, 'row sampling', outerStep).uniform();
    return systematicDraws(shareTotals, tasksPerOuterStep, offset).map((place) =>
      taskAt(tasks, order[place]),
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

function catalogOrder(taskCount: number): Int32Array {
  return Int32Array.from({ length: taskCount }, (_, place) => place);
}

/**
 * Every stage counts its epochs from 0, so the first outer step of a later stage is part of the
 * name.
 */
function shuffledOrder(seed: number, epoch: number, stage: CurriculumStage): Int32Array {
  const { firstOuterStep, tasks } = stage;
  const ofStage = firstOuterStep === 0 ? [] : [firstOuterStep];
  return randomStream(seed, 'task order', epoch, ...ofStage).shuffle(catalogOrder(tasks.length));
}

function taskAt(tasks: readonly TaskEntry[], place: number | undefined): TaskEntry {
  const task = tasks[place ?? -1];
  if (task === undefined) throw new Error(`no task at place ${place} of ${tasks.length}`);
  return task;
}

function nothingToTrainOn(): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the task store has no training tasks',
    expected: 'at least one task of the split `train`',
    cure: 'lower the minimum rows in data.rowSplit or the shares in data.taskSplit, then prepare again',
  });
}

type SamplingName = TrainingConfig['sampling'];
type DrawnByShare = Exclude<SamplingName, 'uniform' | 'sequential'>;

/** The edges in support rows that `evaluate` uses by default. */
const SIZE_BUCKET_EDGES = [10, 30, 100, 300];

function isDrawnByShare(sampling: SamplingName): sampling is DrawnByShare {
  return sampling !== 'uniform' && sampling !== 'sequential';
}

/** One positive number per task, `[taskCount]`. Only their ratios matter. */
function drawSharesOf(
  tasks: readonly TaskEntry[],
  sampling: DrawnByShare,
  sizeBucketEdges: readonly number[] = SIZE_BUCKET_EDGES,
): Float64Array {
  switch (sampling) {
    case 'proportional':
    case 'rows':
      return Float64Array.from(tasks, rowCountOf);
    case 'square-root':
      return Float64Array.from(tasks, (task) => Math.sqrt(rowCountOf(task)));
    case 'size-buckets':
      return equalBuckets(tasks, sizeBucketEdges);
  }
}

/** The share of a bucket without tasks goes to the other buckets in equal parts. */
function equalBuckets(tasks: readonly TaskEntry[], edges: readonly number[]): Float64Array {
  const bucketOf = (task: TaskEntry): number => sizeBucketIndexOf(edges, task.supportRowCount);
  const taskCounts = new Map<number, number>();
  for (const task of tasks) {
    const bucket = bucketOf(task);
    taskCounts.set(bucket, (taskCounts.get(bucket) ?? 0) + 1);
  }
  return Float64Array.from(tasks, (task) => 1 / (taskCounts.get(bucketOf(task)) ?? 1));
}

function rowCountOf(task: TaskEntry): number {
  return task.supportRowCount + task.queryRowCount;
}

/** The running total of `shares` in the order given by `order`, summed in float64. */
export function runningTotals(order: Int32Array, shares: Float64Array): Float64Array {
  let total = 0;
  return Float64Array.from(order, (place) => {
    total += at(shares, place);
    return total;
  });
}

/**
 * The places, ascending, on which `drawCount` points fall. For an offset that is uniform in
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
 * The place of the first total above `point`; the last place if rounding put the point at the end.
 */
function firstAbove(totals: Float64Array, point: number): number {
  let low = 0;
  let high = totals.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (at(totals, middle) > point) high = middle;
    else low = middle + 1;
  }
  return low;
}

type DrawingRule = Pick<TrainingConfig, 'sampling' | 'sizeBucketEdges' | 'tasksPerOuterStep'>;

interface DrawnTasks {
  readonly tasks: readonly TaskEntry[];
  readonly trunkBatches: readonly TaskEntry[];
}

/**
 * With B batches and an expected share s of all query rows that the tasks of an outer step read, B s batches are
 * drawn in an outer step on average: those from floor(t B s) to floor((t + 1) B s) at outer step t, one
 * permutation of the batches after the other. With N tasks, s is tasksPerOuterStep / N where all tasks are drawn
 * alike. With sampling: sequential, the order is that of the catalog.
 */
function trunkBatchDrawer(
  seed: number,
  { tasks, trunkBatches }: DrawnTasks,
  rule: DrawingRule,
): (outerStep: number) => TaskEntry[] {
  const count = trunkBatches.length;
  if (count === 0) return () => [];
  const perOuterStep = count * queryShareOf(tasks, rule);
  let latest: { readonly epoch: number; readonly order: Int32Array } | null = null;
  const orderAt = (epoch: number): Int32Array => {
    if (latest?.epoch === epoch) return latest.order;
    const inOrder = Int32Array.from({ length: count }, (_, place) => place);
    const order =
      rule.sampling === 'sequential'
        ? inOrder
        : randomStream(seed, 'trunk batch order', epoch).shuffle(inOrder);
    latest = { epoch, order };
    return order;
  };
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
  { sampling, sizeBucketEdges, tasksPerOuterStep }: DrawingRule,
): number {
  if (!isDrawnByShare(sampling)) return tasksPerOuterStep / tasks.length;
  const shares = drawSharesOf(tasks, sampling, sizeBucketEdges);
  let [drawn, all, shareTotal] = [0, 0, 0];
  for (const [place, { queryRowCount }] of tasks.entries()) {
    drawn += at(shares, place) * queryRowCount;
    all += queryRowCount;
    shareTotal += at(shares, place);
  }
  return all === 0
    ? tasksPerOuterStep / tasks.length
    : (tasksPerOuterStep * drawn) / (shareTotal * all);
}
