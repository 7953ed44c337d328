/**
 * The jobs of outer steps and their micro-batches, as the planner of a run cuts them. They follow from the sizes of tasks,
 * so no row is read.
 */

import { LruCache } from '../../shared/base/lru-cache.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { TASKS_PER_JOB_MAX, type TrainingConfig } from '../../shared/config/training-config.js';
import type { TaskSize } from '../../shared/tasks/rows/micro-batches.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { costOf, dividesJobs, overlapOf, type DivisibleJob } from '../plan/orders/job-parts.js';
import type { DrawnTask } from '../plan/row-draws.js';
import { cutIntoJobs, taskDrawer } from '../plan/sampler.js';
import {
  CUT_TASKS_MAX,
  plannedCutOf,
  samplingOf,
  type PlannedMicroBatch,
} from '../plan/step-plan.js';

/** The kind of thing that an outer step draws, and that a throughput counts. */
export type Drawn = 'tasks' | 'rows';

/** When jobs are divided. */
export interface Division {
  readonly dividesJobs: boolean;
  /** The number of outer steps that overlap. */
  readonly overlap: number;
  /** A job travels whole if the queue does not carry what its parts return. */
  readonly partByteCountMax: number;
}

/** The outer steps of a run, by the size of their jobs. */
export interface SampledSteps {
  readonly drawn: Drawn;
  /** The number of tasks, or of drawn rows, of an outer step. */
  readonly drawnCount: number;
  /** That of the config: `training.tasksPerJob`, or `training.rowsPerJobMax` where rows are drawn. */
  readonly jobSize: number;
  /** The sizes to choose from, ascending. */
  readonly jobSizes: readonly number[];
  readonly division: Division;
  /** The jobs of a few outer steps, spread over the run. */
  readonly stepsOf: (jobSize: number) => readonly (readonly DivisibleJob[])[];
  /** The jobs of one outer step. */
  readonly jobsAt: (outerStep: number, jobSize: number) => readonly DivisibleJob[];
  /** The training section with jobs of that size. */
  readonly trainingWith: (jobSize: number) => TrainingConfig;
}

const SAMPLED_STEPS_MAX = 16;
/** Bounds the tasks or rows of all sampled steps, of which there is always one. */
const SAMPLED_COUNT_MAX = 16_384;
/** Bounds the jobs of an outer step among the choices. */
const JOBS_MAX = 16_384;
/** Smaller jobs of drawn rows are no choice: their overhead is most of their time. */
const ROWS_PER_JOB_MIN = 16;

/** @throws QianmoError of kind `data` if there is no task to train on. */
export function sampledSteps(config: RunConfig, store: Pick<TaskStore, 'tasks'>): SampledSteps {
  const { training } = config;
  const drawn = training.rowsPerOuterStep === undefined ? 'tasks' : 'rows';
  const drawnCount = training.rowsPerOuterStep ?? training.tasksPerOuterStep;
  const outerSteps = spreadSteps(training.outerSteps, drawnCount);
  const sampling = samplingOf(config, store);
  const { keepsSupport = true } = sampling.rule;
  const draw = taskDrawer(sampling);
  const draws = new LruCache<number, readonly DrawnTask[]>({ countMax: outerSteps.length });
  const drawnAt = (outerStep: number): readonly DrawnTask[] => {
    const drawn = draws.get(outerStep) ?? draw(outerStep);
    draws.put(outerStep, drawn);
    return drawn;
  };
  const jobsUnder = (outerStep: number, bounds: TrainingConfig): DivisibleJob[] =>
    cutIntoJobs(drawnAt(outerStep), { ...sampling.rule, ...boundsOf(bounds) }).map(
      (tasks, jobIndex) => jobOf(tasks, { jobIndex, keepsSupport, config }),
    );
  const { jobSize, jobSizes } =
    drawn === 'tasks' ? taskSizesOf(training) : rowSizesOf(training, unbounded());
  const trainingWith = (size: number): TrainingConfig => {
    if (size === jobSize) return training;
    return { ...training, [drawn === 'tasks' ? 'tasksPerJob' : 'rowsPerJobMax']: size };
  };
  function unbounded(): DivisibleJob[][] {
    const { rowsPerJobMax: _bound, ...free } = training;
    return outerSteps.map((outerStep) => jobsUnder(outerStep, free));
  }
  return {
    ...{ drawn, drawnCount, jobSize, jobSizes, trainingWith },
    division: {
      ...{ dividesJobs: dividesJobs(config), overlap: overlapOf(config) },
      partByteCountMax: config.queue.blobByteCountMax,
    },
    jobsAt: (outerStep, size) => jobsUnder(outerStep, trainingWith(size)),
    stepsOf: (size) => outerSteps.map((outerStep) => jobsUnder(outerStep, trainingWith(size))),
  };
}

function boundsOf({ tasksPerJob, rowsPerJobMax }: TrainingConfig): {
  readonly tasksPerJob: number;
  readonly rowsPerJobMax: number | undefined;
} {
  return { tasksPerJob, rowsPerJobMax };
}

/** Outer steps in the middle of equal parts of the run. */
function spreadSteps(outerSteps: number, drawnCount: number): number[] {
  const count = Math.max(
    1,
    Math.min(SAMPLED_STEPS_MAX, Math.floor(SAMPLED_COUNT_MAX / drawnCount)),
  );
  const steps = Array.from({ length: count }, (_, place) =>
    Math.floor(((place + 0.5) * outerSteps) / count),
  );
  return [...new Set(steps)];
}

type JobSizes = Pick<SampledSteps, 'jobSize' | 'jobSizes'>;

function taskSizesOf({ tasksPerJob, tasksPerOuterStep }: TrainingConfig): JobSizes {
  const sizeMax = Math.min(tasksPerOuterStep, TASKS_PER_JOB_MAX);
  const sizeMin = tasksPerOuterStep / JOBS_MAX;
  return { jobSize: tasksPerJob, jobSizes: sizeChoices(sizeMin, sizeMax) };
}

/** @param unbounded the jobs of outer steps whose jobs have as many rows as they may. */
function rowSizesOf(
  { rowsPerJobMax = Infinity }: TrainingConfig,
  unbounded: readonly (readonly DivisibleJob[])[],
): JobSizes {
  const rowCounts = unbounded.map((jobs) => jobs.map(({ rowCount }) => rowCount));
  const sizeMax = Math.max(...rowCounts.flat());
  const stepMax = Math.max(
    ...rowCounts.map((ofStep) => ofStep.reduce((sum, each) => sum + each, 0)),
  );
  const sizeMin = Math.max(ROWS_PER_JOB_MIN, stepMax / JOBS_MAX);
  return {
    jobSize: Math.min(rowsPerJobMax, sizeMax),
    jobSizes: sizeChoices(sizeMin, sizeMax),
  };
}

/** Powers of two between the bounds, and the upper one. */
export function sizeChoices(sizeMin: number, sizeMax: number): number[] {
  const choices: number[] = [];
  for (let size = 1; size < sizeMax; size *= 2) if (size >= sizeMin) choices.push(size);
  return [...choices, sizeMax];
}

interface JobTerms {
  readonly jobIndex: number;
  readonly keepsSupport: boolean;
  readonly config: RunConfig;
}

function jobOf(
  tasks: readonly DrawnTask[],
  { jobIndex, keepsSupport, config }: JobTerms,
): DivisibleJob {
  const sizes = tasks.map((task) => sizeOf(task, keepsSupport));
  return {
    jobIndex,
    taskIndices: tasks.map(({ taskIndex }) => taskIndex),
    rowCount: sizes.reduce((sum, each) => sum + each.supportRowCount + each.queryRowCount, 0),
    cut: cutOf(sizes, config),
  };
}

/** The rows that the task has in the outer step. */
function sizeOf(
  { supportRowCount, queryRowCount, drawnRows }: DrawnTask,
  keepsSupport: boolean,
): TaskSize {
  if (drawnRows === undefined) return { supportRowCount, queryRowCount };
  const drawnSupportCount = drawnRows.filter((place) => place < supportRowCount).length;
  return {
    supportRowCount: keepsSupport ? supportRowCount : drawnSupportCount,
    queryRowCount: drawnRows.length - drawnSupportCount,
  };
}

/** A job of very many tasks travels whole, and costs as much as the micro-batches that a worker cuts it into. */
function cutOf(sizes: readonly TaskSize[], config: RunConfig): PlannedMicroBatch[] {
  const cut = plannedCutOf(sizes, config);
  if (sizes.length <= CUT_TASKS_MAX) return cut;
  let cost = 0;
  for (let start = 0; start < sizes.length; start += CUT_TASKS_MAX)
    cost += costOf(plannedCutOf(sizes.slice(start, start + CUT_TASKS_MAX), config));
  return cut.map((whole) => ({ ...whole, cost }));
}
