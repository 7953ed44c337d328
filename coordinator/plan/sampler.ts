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
import { drawSharesOf, isDrawnByShare } from './draw-shares.js';
import { rowDrawer, type DrawnTask } from './row-draws.js';
import { runningTotals, systematicDraws } from './systematic-draws.js';
import { trunkBatchDrawer } from './trunk-batches.js';

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
 * Batches of trunk rows are drawn beside the tasks (`trunk-batches.ts`). With `rowsPerOuterStep`, rows are drawn
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
