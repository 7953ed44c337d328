/** Predicts the throughput of a run on any number of workers, and chooses the tasks of a job. */

import { randomStream } from '../../shared/base/random.js';
import { costOf, type StepCosts } from './step-costs.js';
import { jobSizes, simulateStep, type SimulatedStep, type StepShape } from './step-simulation.js';

/** The part that bounds the throughput: with more workers it would hardly grow, but for `workers`. */
export type Bound = 'workers' | 'jobs' | 'coordinator' | 'server' | 'cores';

export interface Prediction extends StepShape {
  readonly tasksPerSecond: number;
  readonly stepMs: number;
  readonly busy: SimulatedStep['busy'];
  readonly bound: Bound;
}

interface PlannedWorkers {
  readonly workerCount: number;
  /** With the tasks per job of the config. */
  readonly asConfigured: Prediction;
  /** With the tasks per job that give the highest throughput. */
  readonly best: Prediction;
}

export interface CapacityPlan {
  readonly costs: StepCosts;
  readonly tasksPerJob: number;
  /** The cores that all processes share; null where each has its own. */
  readonly cores: number | null;
  readonly byWorkers: readonly PlannedWorkers[];
  /** The first thing but workers that bounds the configured run, and from how many workers on. */
  readonly saturation: { readonly bound: Bound; readonly workerCount: number } | null;
}

/** Steps are simulated this many times with other draws, and averaged. */
const STEP_COUNT = 5;
/** A part that is busy for a smaller share of the time bounds nothing by itself. */
const BUSY_SHARE_MIN = 0.5;
/** Larger jobs are chosen if they lose less than this share: they cost less elsewhere. */
const LOSS_SHARE_MAX = 0.01;

export function capacityPlan(
  costs: StepCosts,
  tasksPerJob: number,
  workerCounts: readonly number[],
  cores: number | null = null,
): CapacityPlan {
  const shared = cores === null ? {} : { cores };
  const byWorkers = workerCounts.map((workerCount) => ({
    workerCount,
    asConfigured: predicted(costs, { workerCount, tasksPerJob, ...shared }),
    best: bestOf(costs, { workerCount, ...shared }),
  }));
  const saturated = byWorkers.find(({ asConfigured }) => asConfigured.bound !== 'workers');
  return {
    ...{ costs, tasksPerJob, cores, byWorkers },
    saturation:
      saturated === undefined
        ? null
        : { bound: saturated.asConfigured.bound, workerCount: saturated.workerCount },
  };
}

export function predicted(costs: StepCosts, shape: StepShape): Prediction {
  const steps = Array.from({ length: STEP_COUNT }, (_, step) =>
    simulateStep(costs, shape, randomStream(1, 'capacity', step)),
  );
  const mean = (of: (step: SimulatedStep) => number): number =>
    steps.reduce((sum, step) => sum + of(step), 0) / STEP_COUNT;
  const aloneMs = mean((step) => step.stepMs);
  const stepMs = Math.max(aloneMs, sharedMsOf(costs, shape));
  const busyShare = (of: keyof SimulatedStep['busy']): number =>
    (mean((step) => step.busy[of]) * aloneMs) / stepMs;
  const busy = {
    workers: busyShare('workers'),
    coordinator: busyShare('coordinator'),
    server: busyShare('server'),
    serial: busyShare('serial'),
  };
  return {
    ...shape,
    stepMs,
    tasksPerSecond: (costs.tasksPerOuterStep * 1000) / stepMs,
    busy,
    bound: stepMs > aloneMs ? 'cores' : boundOf(costs, shape, busy),
  };
}

/**
 * The time of a step in which all cores are busy but for the serial part, in which one is; 0 where
 * processes share no cores.
 */
function sharedMsOf(costs: StepCosts, { tasksPerJob, cores }: StepShape): number {
  if (cores === undefined) return 0;
  const processorMs = jobSizes(costs.tasksPerOuterStep, tasksPerJob).reduce(
    (sum, tasks) => sum + costOf(costs.processorMs, tasks) + costOf(costs.coordinatorMs, tasks),
    0,
  );
  return costs.serialMs + processorMs / cores;
}

/**
 * The busiest of workers, coordinator and server. Where none of them is busy half of the time, there are
 * too few jobs for the workers, which wait for the slowest of them.
 */
function boundOf(
  { tasksPerOuterStep }: StepCosts,
  { workerCount, tasksPerJob }: StepShape,
  { workers, coordinator, server }: SimulatedStep['busy'],
): Bound {
  const most = Math.max(workers, coordinator, server);
  const jobCount = Math.ceil(tasksPerOuterStep / tasksPerJob);
  if (most < BUSY_SHARE_MIN && jobCount < 2 * workerCount) return 'jobs';
  if (most === coordinator) return 'coordinator';
  return most === server ? 'server' : 'workers';
}

function bestOf(costs: StepCosts, shape: Omit<StepShape, 'tasksPerJob'>): Prediction {
  const all = tasksPerJobChoices(costs.tasksPerOuterStep).map((tasksPerJob) =>
    predicted(costs, { ...shape, tasksPerJob }),
  );
  const most = Math.max(...all.map(({ tasksPerSecond }) => tasksPerSecond));
  const good = all.filter(({ tasksPerSecond }) => tasksPerSecond >= (1 - LOSS_SHARE_MAX) * most);
  const best = good.at(-1);
  if (best === undefined) throw new Error('there is a choice of tasks per job');
  return best;
}

/** Powers of two, and all tasks at once; ascending. */
export function tasksPerJobChoices(tasksPerOuterStep: number): number[] {
  const choices: number[] = [];
  for (let tasks = 1; tasks < tasksPerOuterStep; tasks *= 2) choices.push(tasks);
  return [...choices, tasksPerOuterStep];
}
