/**
 * Plans an outer step before its meta-parameters are known: jobs, task weights and row packs. Plans do
 * not depend on anything that training changes, so the next one can be read while workers compute.
 */

import { at } from '../../shared/base/arrays.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { gradientCutOf } from '../../shared/methods/inner-loop/gradient-cut.js';
import { adapts, type MethodPlan } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf, type MethodConfig } from '../../shared/methods/methods.js';
import { withDroppedIds, type IdDropout } from '../../shared/tasks/rows/dropped-ids.js';
import { withPlannedDrawnRows, type DrawnRows } from '../../shared/tasks/rows/drawn-rows.js';
import {
  paddedRowCountOf,
  ROWS_WORTH_A_CALL,
  type TaskSize,
} from '../../shared/tasks/rows/micro-batches.js';
import { rowPackLayoutOf, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import { plannedRowsOf, type PlannedRows, type TaskStore } from '../../shared/tasks/task-store.js';
import { QianmoError } from '../../shared/base/errors.js';
import { sizeDivisionOf, type JobSizes, type SizeDivision } from './job-sizes.js';
import { jobNeighboursOf, NO_NEIGHBOURS, type JobNeighbours } from './job-neighbours.js';
import type { DrawnTask } from './row-draws.js';
import { taskSampler, type SampledJobs, type Sampling, type TaskSampler } from './sampler.js';
import { coldTaskWeightingOf, taskWeightingOf, taskWeightsOf } from './task-weights.js';

/** A task that plans leave out from this outer step on. */
interface QuarantinedTask {
  readonly outerStep: number;
  readonly taskIndex: number;
}

/** A micro-batch of a planned job. */
export interface PlannedMicroBatch {
  /** The places of its tasks in the job. */
  readonly taskPlaces: readonly number[];
  /** The rows of its tasks. */
  readonly rowCount: number;
  /** Its padded rows, and those that a call is worth. */
  readonly cost: number;
}

interface PlannedJob {
  readonly jobIndex: number;
  readonly taskIndices: readonly number[];
  /** By task, the rows that were drawn; null where all are read. */
  readonly drawnRows: readonly (readonly number[])[] | null;
  readonly taskWeights: readonly number[];
  /** Null if the method has no cold term. */
  readonly coldTaskWeights: readonly number[] | null;
  readonly neighbours: JobNeighbours['named'];
  readonly sizes: JobSizes;
  /** The rows of all tasks that it reads. */
  readonly rowCount: number;
  /** Its micro-batches, in the order of their sum. */
  readonly cut: readonly PlannedMicroBatch[];
  /** Empty if jobs have no row packs. */
  readonly layout: RowPackLayout;
}

export interface StepPlan {
  readonly outerStep: number;
  readonly jobs: readonly PlannedJob[];
  readonly taskCount: number;
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

/**
 * A method whose tasks do not adapt weights them by rows, so that it reads every task once per epoch.
 * Logs without a time have no age, so a curriculum then goes by size.
 */
export function samplingOf(
  { seed, method, training, data }: Pick<RunConfig, 'seed' | 'method' | 'training' | 'data'>,
  store: Pick<TaskStore, 'tasks'>,
): Sampling {
  const { sampling, curriculum } = training;
  const plan = methodPlanOf(method);
  return {
    seed,
    tasks: store.tasks.filter((task) => task.split === 'train'),
    rule: {
      ...training,
      sampling: adapts(plan) || sampling === 'sequential' ? sampling : 'uniform',
      keepsSupport: adapts(plan),
      ...(curriculum !== undefined && data.time === undefined
        ? { curriculum: { ...curriculum, by: 'size' } }
        : {}),
    },
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
  readonly sample: TaskSampler;
  readonly division: SizeDivision;
  readonly hasRowPacks: boolean;
}

async function planOf(
  { config, store, sample, division, hasRowPacks }: PlanSource,
  outerStep: number,
  leftOut: readonly QuarantinedTask[],
): Promise<StepPlan> {
  const sampled = withoutTasks(sample(outerStep), leftOut, outerStep);
  const drawn = sampled.flat();
  const whole = await plannedRowsOf(
    store,
    drawn.map((task) => task.taskIndex),
  );
  const rows = withPlannedDrawnRows(whole, drawnRowsOf(drawn, config.method));
  const isTrunk = (taskIndex: number): boolean => store.tasks[taskIndex]?.split === 'trunk';
  const weights = taskWeightsOf(rows, taskWeightingOf(config), isTrunk);
  const cold = coldTaskWeightingOf(config);
  const coldWeights = cold === null ? null : taskWeightsOf(rows, cold, isTrunk);
  let start = 0;
  const jobs: PlannedJob[] = [];
  for (const [jobIndex, tasks] of sampled.entries()) {
    const end = start + tasks.length;
    const own = rows.slice(start, end);
    const undrawn = whole.slice(start, end);
    const read = withDroppedIds(own, store.manifest.features, idDropoutAt(config, outerStep));
    const neighbours = await neighboursOf(store, config.method, undrawn);
    jobs.push({
      jobIndex,
      taskIndices: tasks.map((task) => task.taskIndex),
      drawnRows: drawnRowsOf(tasks, config.method)?.byTask ?? null,
      taskWeights: weights.slice(start, end),
      coldTaskWeights: coldWeights?.slice(start, end) ?? null,
      neighbours: neighbours.named,
      sizes: division.of(
        undrawn.map(({ supportRowCount, taskIndex }, place) => ({
          supportRowCount,
          weight: at(weights, start + place),
          isTrunk: isTrunk(taskIndex),
        })),
      ),
      rowCount: own.reduce((sum, { impressions }) => sum + impressions.length, 0),
      cut: plannedCutOf(sizesOf(own), config),
      layout: rowPackLayoutOf(hasRowPacks ? [...read, ...neighbours.rows] : []),
    });
    start = end;
  }
  return { outerStep, jobs, taskCount: rows.length };
}

/** Jobs of more tasks travel whole: the search for the cheapest cut takes the square of their number. */
export const CUT_TASKS_MAX = 512;

function sizesOf(tasks: readonly PlannedRows[]): TaskSize[] {
  return tasks.map(({ supportRowCount, impressions }) => ({
    supportRowCount,
    queryRowCount: impressions.length - supportRowCount,
  }));
}

/** As a worker cuts the job, but for a method that reads neighbours, whose rows are padded with those of tasks. */
export function plannedCutOf(
  sizes: readonly TaskSize[],
  { method, training }: Pick<RunConfig, 'method' | 'training'>,
): PlannedMicroBatch[] {
  const rowCountOf = (places: readonly number[]): number =>
    places.reduce((sum, place) => {
      const { supportRowCount, queryRowCount } = at(sizes, place);
      return sum + supportRowCount + queryRowCount;
    }, 0);
  if (sizes.length > CUT_TASKS_MAX) {
    const taskPlaces = [...sizes.keys()];
    const rowCount = rowCountOf(taskPlaces);
    return [{ taskPlaces, rowCount, cost: rowCount + ROWS_WORTH_A_CALL }];
  }
  const bounds = { rowsMax: training.microBatchRowsMax };
  return gradientCutOf(methodPlanOf(method), sizes, bounds).map((microBatch) => ({
    taskPlaces: microBatch.taskPlaces,
    rowCount: rowCountOf(microBatch.taskPlaces),
    cost: paddedRowCountOf(microBatch) + ROWS_WORTH_A_CALL,
  }));
}

function idDropoutAt({ training, seed }: RunConfig, outerStep: number): IdDropout | null {
  const { idDropout: rates } = training;
  return rates === undefined ? null : { rates, seed, outerStep };
}

/** Null where all rows of the tasks are read. */
function drawnRowsOf(tasks: readonly DrawnTask[], method: MethodConfig): DrawnRows | null {
  const byTask = tasks.flatMap(({ drawnRows }) => (drawnRows === undefined ? [] : [drawnRows]));
  return byTask.length === 0 ? null : { byTask, keepsSupport: adapts(methodPlanOf(method)) };
}

/** The draws stay those of the sampler; jobs lose tasks, and empty ones go. */
function withoutTasks(
  sampled: SampledJobs,
  leftOut: readonly QuarantinedTask[],
  outerStep: number,
): SampledJobs {
  if (leftOut.length === 0) return sampled;
  const isLeftOut = ({ taskIndex }: { readonly taskIndex: number }): boolean =>
    leftOut.some((task) => task.taskIndex === taskIndex && task.outerStep <= outerStep);
  const jobs = sampled.map((tasks) => tasks.filter((task) => !isLeftOut(task)));
  const left = jobs.filter((tasks) => tasks.length > 0);
  if (left.length > 0) return left;
  throw new QianmoError({
    kind: 'failed',
    what: 'every task of an outer step is quarantined',
    where: `outer step ${outerStep}`,
    cure: 'correct the rows of the quarantined tasks, prepare and train again',
  });
}

async function neighboursOf(
  store: TaskStore,
  method: MethodConfig,
  tasks: readonly PlannedRows[],
): Promise<JobNeighbours> {
  if (methodPlanOf(method).innerLoop.reads.neighbours === undefined) return NO_NEIGHBOURS;
  const whole = await store.readTasks(tasks.map(({ taskIndex }) => taskIndex));
  return jobNeighboursOf(store, method, whole);
}
