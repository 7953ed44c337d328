/**
 * Plans an outer step before its meta-parameters are known: its leaves, task weights and row packs. Plans do
 * not depend on anything that training changes, so the next one can be read while workers compute.
 */

import { at } from '../../shared/base/arrays.js';
import { errorOf } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { adapts, type MethodPlan } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import { joinedIds } from '../../shared/sums/gradient-node.js';
import type { LeafRange } from '../../shared/sums/sum-tree.js';
import { packLayoutOf, rowPackLayoutOf, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import {
  withPlannedDrawnRows,
  type DrawnRows,
  withDroppedIds,
  type IdDropout,
} from '../../shared/tasks/task-copies.js';
import type { MicroBatch } from '../../shared/tasks/micro-batches.js';
import type { PlannedRows, TaskStore } from '../../shared/tasks/task-store.js';
import type { CostedLeaf } from './deliveries.js';
import { cutIntoLeaves } from './leaves.js';
import { type DrawnTask, type SamplingRule, taskSampler } from './sampler.js';
import { SIZE_BUCKETS_MAX } from '../../shared/events/size-losses.js';
import { EVERY_ADGROUP, sizeBucketIndexOf, sizeBuckets } from '../scoring/size-buckets.js';

/**
 * - `uniform`: every task counts the same.
 * - `examples`, `sqrt`: in proportion to the impressions of the query rows, or to their square root, so
 *   that aggregated logs weigh as much as the expanded rows would.
 * - `rows`, `sqrt-rows`: the same for all rows. With `rows`, the weighted sum of the tasks' losses is
 *   the mean loss per impression, which the global method minimises.
 * - `support`, `sqrt-support`: the same for the support rows.
 */
const MEASURES = {
  uniform: { rows: null, isRoot: false },
  examples: { rows: 'query', isRoot: false },
  sqrt: { rows: 'query', isRoot: true },
  rows: { rows: 'all', isRoot: false },
  'sqrt-rows': { rows: 'all', isRoot: true },
  support: { rows: 'support', isRoot: false },
  'sqrt-support': { rows: 'support', isRoot: true },
} as const;
type TaskWeightRule = keyof typeof MEASURES;

const COLD_RULES = {
  all: { uniform: 'uniform', examples: 'rows', sqrt: 'sqrt-rows' },
  support: { uniform: 'uniform', examples: 'support', sqrt: 'sqrt-support' },
} as const;

interface TaskWeighting {
  readonly rule: TaskWeightRule;
  /** The rows that the term is over. */
  readonly rows: 'query' | 'support' | 'all';
}

function taskWeightingOf(config: Pick<RunConfig, 'method' | 'training'>): TaskWeighting {
  return adapts(methodPlanOf(config.method))
    ? { rule: config.training.taskWeight, rows: 'query' }
    : { rule: 'rows', rows: 'all' };
}

/** The weighting of the cold term, which is by the rows of that term; null without a cold term. */
export function coldTaskWeightingOf({
  method,
  training,
}: Pick<RunConfig, 'method' | 'training'>): TaskWeighting | null {
  const { cold } = methodPlanOf(method);
  if (cold === null) return null;
  return { rule: COLD_RULES[cold.rows][training.taskWeight], rows: cold.rows };
}

/**
 * The weights of all tasks of one outer step, in order. They sum to 1. An impression in a batch of trunk rows
 * weighs as much as one in the rows that the term reads of the other tasks does on average.
 *
 * @param isTrunk whether a task is such a batch.
 * @throws QianmoError of kind `data` if no task has impressions.
 */
export function taskWeightsOf(
  tasks: readonly PlannedRows[],
  { rule, rows }: TaskWeighting,
  isTrunk: (taskIndex: number) => boolean = () => false,
): number[] {
  const adgroups = tasks.filter(({ taskIndex }) => !isTrunk(taskIndex));
  const perImpression = (): number => {
    const impressions = adgroups.reduce((sum, task) => sum + impressionsOf(task, rows), 0);
    const measure = adgroups.reduce((sum, task) => sum + measureOf(task, rule), 0);
    return impressions > 0 ? measure / impressions : 1;
  };
  const ofTrunk = adgroups.length < tasks.length ? perImpression() : 0;
  const measures = tasks.map((task) =>
    isTrunk(task.taskIndex) ? ofTrunk * impressionsOf(task, rows) : measureOf(task, rule),
  );
  const total = measures.reduce((sum, measure) => sum + measure, 0);
  if (!(total > 0))
    throw errorOf('data', 'no task of an outer step has impressions to weight it by', {
      where: `tasks ${tasks.map((task) => task.taskIndex).join(', ')}`,
      expected: 'a sum of impressions above 0',
      found: `${total}`,
      cure: 'set training.taskWeight: uniform, or leave out rows of weight 0 when preparing',
    });
  return measures.map((measure) => measure / total);
}

function measureOf(task: PlannedRows, rule: TaskWeightRule): number {
  const { rows, isRoot } = MEASURES[rule];
  if (rows === null) return 1;
  const impressions = impressionsOf(task, rows);
  return isRoot ? Math.sqrt(impressions) : impressions;
}

function impressionsOf(task: PlannedRows, rows: TaskWeighting['rows']): number {
  if (rows === 'support') return impressionsOf(task, 'all') - impressionsOf(task, 'query');
  let sum = 0;
  const first = rows === 'query' ? task.supportRowCount : 0;
  for (const count of task.impressions.subarray(first)) sum += count;
  return sum;
}

/** A task that plans leave out from this outer step on. */
interface QuarantinedTask {
  readonly outerStep: number;
  readonly taskIndex: number;
}

/** The tasks of an outer step, leaf after leaf. */
interface PlannedTasks {
  readonly taskIndices: readonly number[];
  /** By task, the rows that were drawn; null where all are read. */
  readonly drawnRows: readonly (readonly number[])[] | null;
  /** By task, the support rows of its episode; null where no episodes are drawn. */
  readonly drawnSupportCounts: readonly number[] | null;
  readonly taskWeights: readonly number[];
  /** Null if the method has no cold term. */
  readonly coldTaskWeights: readonly number[] | null;
  readonly sizes: StepSizes;
}

interface PlannedLeaf extends CostedLeaf {
  /** Its tasks among those of the step. */
  readonly taskStart: number;
  readonly taskEnd: number;
  /** Its padded extents. */
  readonly microBatch: MicroBatch;
  /** Empty if jobs have no row packs. */
  readonly layout: RowPackLayout;
}

export interface StepPlan {
  readonly outerStep: number;
  readonly tasks: PlannedTasks;
  readonly taskCount: number;
  /** Whether query losses before adaptation are measured, which takes another forward pass. */
  readonly asksQueryLossBefore: boolean;
  /** In the order of the sum tree; at least one. */
  readonly leaves: readonly PlannedLeaf[];
}

/** The row packs of several leaves together, which sender and reader of a delivery ask for, by plan. */
const joinedLayouts = new WeakMap<StepPlan['leaves'], Map<string, RowPackLayout>>();

/** The row pack of some leaves together. */
export function layoutOf(
  { leaves }: Pick<StepPlan, 'leaves'>,
  { first, end }: LeafRange,
): RowPackLayout {
  if (end - first === 1) return at(leaves, first).layout;
  const joined = joinedLayouts.get(leaves) ?? new Map<string, RowPackLayout>();
  joinedLayouts.set(leaves, joined);
  const range = `${first}-${end}`;
  const known = joined.get(range);
  if (known !== undefined) return known;
  const layout = packLayoutOf(
    joinedIds(leaves.slice(first, end).map(({ layout: { idsByTable } }) => idsByTable)),
  );
  joined.set(range, layout);
  return layout;
}

export interface StepPlanner {
  /** @param quarantined the tasks that are left out. */
  take(outerStep: number, quarantined?: readonly QuarantinedTask[]): Promise<StepPlan>;
  /** Starts to read the plan after the one that was taken last, unless that is done or was the last of all. */
  readAhead(): void;
  /** Resolves when no read is in progress. */
  settled(): Promise<void>;
}

/**
 * @param endOuterStep the end of this call as far as it is known; nothing is read ahead beyond it
 * @param hasRowPacks whether jobs have row packs
 */
export function stepPlanner(
  config: RunConfig,
  store: TaskStore,
  endOuterStep = config.training.outerSteps,
  hasRowPacks = true,
): StepPlanner {
  const division = sizeDivisionOf(config.evaluation.sizeBucketEdges);
  const { seed, tasks, rule, trunkBatches } = samplingOf(config, store);
  const sample = taskSampler(seed, tasks, rule, trunkBatches);
  const source = { config, store, sample, division, hasRowPacks };
  let ahead: { outerStep: number; leftOutCount: number; plan: Promise<StepPlan> } | null = null;
  let next: { outerStep: number; leftOut: readonly QuarantinedTask[] } | null = null;
  const read = (outerStep: number, leftOut: readonly QuarantinedTask[]): Promise<StepPlan> =>
    planOf(source, outerStep, leftOut);
  return {
    async take(outerStep, leftOut = []) {
      // Tasks are only ever added to those that are left out.
      const isAhead = ahead?.outerStep === outerStep && ahead.leftOutCount === leftOut.length;
      const plan = await (ahead !== null && isAhead ? ahead.plan : read(outerStep, leftOut));
      ahead = null;
      next = outerStep + 1 < endOuterStep ? { outerStep: outerStep + 1, leftOut } : null;
      return plan;
    },
    readAhead() {
      if (next === null) return;
      const { outerStep, leftOut } = next;
      next = null;
      ahead = { outerStep, leftOutCount: leftOut.length, plan: read(outerStep, leftOut) };
      // A failed read is thrown by the `take` that wants it, not as an unhandled rejection.
      ahead.plan.catch(() => undefined);
    },
    async settled() {
      await ahead?.plan.catch(() => undefined);
    },
  };
}

/** A method whose tasks do not adapt weights them by rows, so that it reads every task once per epoch. */
function samplingOf(
  { seed, data, method, training }: Pick<RunConfig, 'seed' | 'data' | 'method' | 'training'>,
  store: Pick<TaskStore, 'tasks'>,
) {
  const { sampling } = training;
  const plan = methodPlanOf(method);
  return {
    seed,
    tasks: store.tasks.filter((task) => task.split === 'train'),
    rule: {
      ...training,
      sampling: adapts(plan) || sampling === 'sequential' ? sampling : 'uniform',
      inEpisodes: adapts(plan),
      inTime: data.rowSplit.by === 'time',
    } satisfies SamplingRule,
    trunkBatches: readsTrunkRows(plan) ? store.tasks.filter((task) => task.split === 'trunk') : [],
  };
}

/**
 * A method that makes a task's start of its attributes cannot read rows of several adgroups as one task, whose
 * attributes differ.
 */
export function readsTrunkRows({ innerLoop }: MethodPlan): boolean {
  return innerLoop.reads.attributes !== true;
}

interface PlanSource {
  readonly config: RunConfig;
  readonly store: TaskStore;
  readonly sample: ReturnType<typeof taskSampler>;
  readonly division: SizeDivision;
  readonly hasRowPacks: boolean;
}

async function planOf(
  { config, store, sample, division, hasRowPacks }: PlanSource,
  outerStep: number,
  leftOut: readonly QuarantinedTask[],
): Promise<StepPlan> {
  const sampled = withoutTasks(sample(outerStep), leftOut, outerStep);
  const whole = await store.readTasks(sampled.map((task) => task.taskIndex));
  const drawn = drawnRowsOf(sampled);
  const rows = withPlannedDrawnRows(whole, drawn);
  const isTrunk = (taskIndex: number): boolean => store.tasks[taskIndex]?.split === 'trunk';
  const weights = taskWeightsOf(rows, taskWeightingOf(config), isTrunk);
  const cold = coldTaskWeightingOf(config);
  const coldWeights = cold === null ? null : taskWeightsOf(rows, cold, isTrunk);
  const read = withDroppedIds(rows, store.manifest.features, idDropoutAt(config, outerStep));
  const cut = cutIntoLeaves(
    rows.map(({ supportRowCount, impressions }, place) => ({
      supportRowCount,
      queryRowCount: impressions.length - supportRowCount,
      drawnRowCount: sampled[place]?.drawnRows?.length ?? 0,
    })),
    config,
  );
  const order = cut.flatMap(({ microBatch }) => microBatch.taskPlaces);
  let taskEnd = 0;
  const leaves = cut.map(({ microBatch, ...costs }): PlannedLeaf => {
    const taskStart = taskEnd;
    taskEnd += microBatch.taskPlaces.length;
    const places = microBatch.taskPlaces;
    const own = places.map((place) => at(read, place));
    const layout = rowPackLayoutOf(hasRowPacks ? own : []);
    return { ...costs, taskStart, taskEnd, microBatch, layout };
  });
  const inOrder = <Value>(values: readonly Value[]): Value[] =>
    order.map((place) => at(values, place));
  const tasks: PlannedTasks = {
    taskIndices: inOrder(sampled.map(({ taskIndex }) => taskIndex)),
    drawnRows: drawn && inOrder(drawn.byTask),
    drawnSupportCounts: drawn?.supportCounts ? inOrder(drawn.supportCounts) : null,
    taskWeights: inOrder(weights),
    coldTaskWeights: coldWeights && inOrder(coldWeights),
    sizes: division.of(
      order.map((place) => {
        const { supportRowCount, taskIndex } = at(whole, place);
        return { supportRowCount, isTrunk: isTrunk(taskIndex) };
      }),
    ),
  };
  const asksQueryLossBefore = asksQueryLossBeforeAt(config, outerStep);
  return { outerStep, tasks, taskCount: order.length, asksQueryLossBefore, leaves };
}

/** In the first outer step and in every n-th. Without adaptation, there is one query loss. */
function asksQueryLossBeforeAt({ method, training }: RunConfig, outerStep: number): boolean {
  const every = training.queryLossBeforeEveryOuterSteps;
  const isMeasured = every > 0 && (outerStep === 0 || (outerStep + 1) % every === 0);
  return isMeasured && adapts(methodPlanOf(method));
}

function idDropoutAt({ training, seed }: RunConfig, outerStep: number): IdDropout | null {
  const { idDropout: rates } = training;
  return rates === undefined ? null : { rates, seed, outerStep };
}

/** Null where all rows of the tasks are read. */
function drawnRowsOf(tasks: readonly DrawnTask[]): DrawnRows | null {
  const byTask = tasks.flatMap(({ drawnRows = [] }) => (drawnRows.length > 0 ? [drawnRows] : []));
  const counts = tasks.flatMap(({ drawnSupportCount: count }) =>
    count === undefined ? [] : [count],
  );
  return byTask.length === 0
    ? null
    : { byTask, supportCounts: counts.length === 0 ? null : counts };
}

/** The draws stay those of the sampler. */
function withoutTasks(
  sampled: readonly DrawnTask[],
  leftOut: readonly QuarantinedTask[],
  outerStep: number,
): readonly DrawnTask[] {
  if (leftOut.length === 0) return sampled;
  const isLeftOut = ({ taskIndex }: { readonly taskIndex: number }): boolean =>
    leftOut.some((task) => task.taskIndex === taskIndex && task.outerStep <= outerStep);
  const left = sampled.filter((task) => !isLeftOut(task));
  if (left.length > 0) return left;
  throw errorOf('failed', 'every task of an outer step is quarantined', {
    where: `outer step ${outerStep}`,
    cure: 'correct the rows of the quarantined tasks, prepare and train again',
  });
}

/** Stands in place of a bucket: the task is no adgroup but a batch of trunk rows. */
export const NO_SIZE_BUCKET = -1;

interface StepSizes {
  /** The bucket of each task, or `NO_SIZE_BUCKET` for a batch of trunk rows. */
  readonly bucketByTask: readonly number[];
  readonly taskCounts: readonly number[];
}

interface SizedTask {
  readonly supportRowCount: number;
  readonly isTrunk: boolean;
}

interface SizeDivision {
  /** `0-10`, `>300` */
  readonly names: readonly string[];
  of(tasks: readonly SizedTask[]): StepSizes;
}

/** @param upperEdges those of evaluations; too many are cut, and the last bucket takes what lies above. */
export function sizeDivisionOf(upperEdges: readonly number[]): SizeDivision {
  const ascending = [...new Set(upperEdges)].sort((a, b) => a - b);
  const edges = ascending.slice(0, SIZE_BUCKETS_MAX - 1);
  const buckets = edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
  return {
    names: buckets.map(({ name }) => name),
    of: (tasks) => {
      const taskCounts = buckets.map(() => 0);
      const bucketByTask = tasks.map(({ supportRowCount, isTrunk }) => {
        if (isTrunk) return NO_SIZE_BUCKET;
        const bucket = sizeBucketIndexOf(edges, supportRowCount);
        taskCounts[bucket] = (taskCounts[bucket] ?? 0) + 1;
        return bucket;
      });
      return { bucketByTask, taskCounts };
    },
  };
}
