/** Predicts the throughput of a run on any number of workers, and chooses the size of its jobs. */

import { at } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import type { DivisibleJob } from '../plan/orders/job-parts.js';
import type { Drawn, SampledSteps } from './sampled-steps.js';
import { simulatedOrders, type SimulatedOrder } from './simulated-orders.js';
import { costAt, type StepCosts } from './step-costs.js';
import { simulateStep, type SimulatedStep } from './step-simulation.js';

/** The part that bounds the throughput: with more workers it would hardly grow, but for `workers`. */
export type Bound = 'workers' | 'jobs' | 'coordinator' | 'server' | 'cores';

export interface Prediction {
  readonly workerCount: number;
  /** The tasks of a job, or its rows at most where rows are drawn. */
  readonly jobSize: number;
  /** Tasks, or drawn rows. */
  readonly perSecond: number;
  readonly stepMs: number;
  /** The number of jobs and parts of jobs that travel in a step; a mean. */
  readonly orderCount: number;
  readonly busy: SimulatedStep['busy'];
  readonly bound: Bound;
}

interface PlannedWorkers {
  readonly workerCount: number;
  /** With the size of jobs of the config. */
  readonly asConfigured: Prediction;
  /** With the size of jobs that gives the highest throughput. */
  readonly best: Prediction;
}

export interface CapacityPlan {
  readonly costs: StepCosts;
  readonly drawn: Drawn;
  readonly jobSize: number;
  /** The cores that all processes share; null where each has its own. */
  readonly cores: number | null;
  readonly byWorkers: readonly PlannedWorkers[];
  /** The first thing but workers that bounds the configured run, and from how many workers on. */
  readonly saturation: { readonly bound: Bound; readonly workerCount: number } | null;
}

type PlannedSteps = Pick<
  SampledSteps,
  'drawn' | 'drawnCount' | 'jobSize' | 'jobSizes' | 'division' | 'stepsOf'
>;

/** A part that is busy for a smaller share of the time bounds nothing by itself. */
const BUSY_SHARE_MIN = 0.5;
/** Larger jobs are chosen if they lose less than this share: they cost less elsewhere. */
const LOSS_SHARE_MAX = 0.01;

export function capacityPlan(
  costs: StepCosts,
  planned: PlannedSteps,
  workerCounts: readonly number[],
  cores: number | null = null,
): CapacityPlan {
  const { drawn, jobSize, jobSizes } = planned;
  const ofSize = (size: number): Prediction[] => {
    const steps = planned.stepsOf(size);
    return workerCounts.map((workerCount) =>
      predicted(costs, planned, { ...{ workerCount, cores, steps }, jobSize: size }),
    );
  };
  const configured = ofSize(jobSize);
  const choices = jobSizes.map((size) => (size === jobSize ? configured : ofSize(size)));
  const byWorkers = workerCounts.map((workerCount, place) => ({
    workerCount,
    asConfigured: at(configured, place),
    best: bestOf(choices.map((choice) => at(choice, place))),
  }));
  const saturated = byWorkers.find(({ asConfigured }) => asConfigured.bound !== 'workers');
  return {
    ...{ costs, drawn, jobSize, cores, byWorkers },
    saturation:
      saturated === undefined
        ? null
        : { bound: saturated.asConfigured.bound, workerCount: saturated.workerCount },
  };
}

interface Shape {
  readonly workerCount: number;
  readonly jobSize: number;
  readonly cores?: number | null;
  /** The jobs of outer steps, over which the prediction is a mean. */
  readonly steps: readonly (readonly DivisibleJob[])[];
}

export function predicted(
  costs: StepCosts,
  { drawnCount, division }: Pick<PlannedSteps, 'drawnCount' | 'division'>,
  { workerCount, jobSize, cores = null, steps }: Shape,
): Prediction {
  const orders = steps.map((jobs) => simulatedOrders(jobs, costs, workerCount, division));
  const simulated = orders.map((ofStep, step) => ({
    ...simulateStep(costs, ofStep, workerCount, randomStream(1, 'capacity', step)),
    orderCount: ofStep.length,
    sharedMs: cores === null ? 0 : sharedMsOf(costs, ofStep, cores),
  }));
  const mean = (of: (step: (typeof simulated)[number]) => number): number =>
    simulated.reduce((sum, step) => sum + of(step), 0) / simulated.length;
  const stepMs = mean((step) => Math.max(step.stepMs, step.sharedMs));
  const busyShare = (of: keyof SimulatedStep['busy']): number =>
    mean((step) => step.busy[of] * step.stepMs) / stepMs;
  const busy = {
    workers: busyShare('workers'),
    coordinator: busyShare('coordinator'),
    server: busyShare('server'),
    serial: busyShare('serial'),
  };
  const orderCount = mean((step) => step.orderCount);
  const longestShare = mean(({ longestMs }) => longestMs) / stepMs;
  const isShort = mean((step) => step.sharedMs) > mean((step) => step.stepMs);
  return {
    ...{ workerCount, jobSize, stepMs, orderCount, busy },
    perSecond: (drawnCount * 1000) / stepMs,
    bound: isShort ? 'cores' : boundOf(busy, { workerCount, orderCount, longestShare }),
  };
}

/** The time of a step in which all cores are busy but for the serial part, in which one is. */
function sharedMsOf(costs: StepCosts, orders: readonly SimulatedOrder[], cores: number): number {
  const processorMs = orders.reduce(
    (sum, { paddedRowCount, rowCount }) =>
      sum + costAt(costs.processorMs, paddedRowCount) + costAt(costs.coordinatorMs, rowCount),
    0,
  );
  return costs.serialMs + processorMs / cores;
}

/**
 * The busiest of workers, coordinator and server. Where none of them is busy half of the time, workers wait for
 * the slowest of them, because jobs are too few or one of them is too long.
 */
function boundOf(
  { workers, coordinator, server }: SimulatedStep['busy'],
  jobs: {
    readonly workerCount: number;
    readonly orderCount: number;
    /** The share of the step in which the longest job computes. */
    readonly longestShare: number;
  },
): Bound {
  const most = Math.max(workers, coordinator, server);
  const areFew = jobs.orderCount < 2 * jobs.workerCount;
  if (most < BUSY_SHARE_MIN && (areFew || jobs.longestShare > BUSY_SHARE_MIN)) return 'jobs';
  if (most === coordinator) return 'coordinator';
  return most === server ? 'server' : 'workers';
}

/** @param choices by size of jobs, ascending */
function bestOf(choices: readonly Prediction[]): Prediction {
  const most = Math.max(...choices.map(({ perSecond }) => perSecond));
  const good = choices.filter(({ perSecond }) => perSecond >= (1 - LOSS_SHARE_MAX) * most);
  return at(good, good.length - 1);
}
