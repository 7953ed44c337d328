/** The costs of an outer step, from steps that were measured with one worker and two sizes of jobs. */

import { at, median } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import { costOf, type DivisibleJob } from '../plan/orders/job-parts.js';
import type { MeasuredStep } from './measured-dispatcher.js';
import { simulatedOrders } from './simulated-orders.js';
import {
  costAt,
  fittedCost,
  type CostPoint,
  type LinearCost,
  type StepCosts,
} from './step-costs.js';
import { simulateStep } from './step-simulation.js';

/** A step of whole jobs on one worker, with its jobs as they were planned. */
export interface PlannedMeasuredStep extends MeasuredStep {
  readonly planned: readonly DivisibleJob[];
}

/** Steps with jobs of one size, without those in which the worker had no graphs yet. */
export type MeasuredSteps = readonly PlannedMeasuredStep[];

interface SizedJob {
  readonly jobIndex: number;
  readonly rowCount: number;
  readonly paddedRowCount: number;
  readonly computeMs: number;
  readonly inputByteCount: number;
  readonly outputByteCount: number;
}

const SPREAD_COUNT = 64;
/** Halvings of the interval in which idleMs lies: its 60,000th part is left. */
const HALVING_COUNT = 16;

/**
 * The idle time of a worker is what remains: it is chosen so that the model gives the measured times of a step
 * with one worker and jobs of either size, or of the first where a part of the line would be below 0.
 */
export function measuredCosts(
  sizes: readonly [MeasuredSteps, MeasuredSteps],
  serverBytesPerMs: number,
): StepCosts {
  const [first] = sizes;
  const typical = sizes.flatMap((steps) => typicalJobsOf(steps.flatMap(jobsOf)));
  const line = (
    rows: 'rowCount' | 'paddedRowCount',
    cost: 'computeMs' | 'inputByteCount' | 'outputByteCount',
  ): LinearCost => fittedCost(typical.map((job) => ({ rowCount: job[rows], cost: job[cost] })));
  const computeMs = line('paddedRowCount', 'computeMs');
  const costs: StepCosts = {
    serialMs: medianOr0(first.flatMap(({ serialMs }) => serialMs ?? [])),
    ...{ computeMs, computeSpread: spreadOf(first.flatMap(jobsOf), computeMs) },
    coordinatorMs: meanLine(sizes, 'rowCount', 'processorMs'),
    processorMs: meanLine(sizes, 'paddedRowCount', 'othersProcessorMs'),
    idleMs: { perJob: 0, perRow: 0 },
    denseByteCount: medianOr0(first.map(({ denseByteCount }) => denseByteCount)),
    inputByteCount: line('rowCount', 'inputByteCount'),
    outputByteCount: line('rowCount', 'outputByteCount'),
    serverBytesPerMs,
  };
  const idle = sizes.map((steps) => {
    const rows = meanOf(steps.flatMap(jobsOf).map(({ rowCount }) => rowCount));
    return { rowCount: rows, cost: idleMsOf(costs, steps) };
  });
  return { ...costs, idleMs: lineFrom(at(idle, 0), at(idle, 1)) };
}

/** The measured time of a step, in milliseconds. */
export function stepMsOf(steps: MeasuredSteps): number {
  return median(steps.map(({ dispatchMs, serialMs }) => dispatchMs + (serialMs ?? 0)));
}

/** Jobs that were not planned are left out: they are none of the one worker's. */
function jobsOf({ jobs, planned }: PlannedMeasuredStep): SizedJob[] {
  return jobs.flatMap((job) => {
    const plannedJob = planned[job.jobIndex];
    if (plannedJob === undefined) return [];
    const { rowCount, cut } = plannedJob;
    return [{ ...job, rowCount, paddedRowCount: costOf(cut) }];
  });
}

/** The median of each column by place in the step, where jobs are in order of size: no outlier counts. */
function typicalJobsOf(jobs: readonly SizedJob[]): SizedJob[] {
  const byPlace = new Map<number, SizedJob[]>();
  for (const job of jobs) byPlace.set(job.jobIndex, [...(byPlace.get(job.jobIndex) ?? []), job]);
  return [...byPlace].map(([jobIndex, alike]) => {
    const middle = (of: (job: SizedJob) => number): number => median(alike.map(of));
    return {
      jobIndex,
      rowCount: middle(({ rowCount }) => rowCount),
      paddedRowCount: middle(({ paddedRowCount }) => paddedRowCount),
      computeMs: middle(({ computeMs }) => computeMs),
      inputByteCount: middle(({ inputByteCount }) => inputByteCount),
      outputByteCount: middle(({ outputByteCount }) => outputByteCount),
    };
  });
}

/** From means of all jobs of a size, because the kernel counts in ticks that are longer than many a step. */
function meanLine(
  sizes: readonly MeasuredSteps[],
  rows: 'rowCount' | 'paddedRowCount',
  cost: 'processorMs' | 'othersProcessorMs',
): LinearCost {
  const points = sizes.map((steps) => {
    const jobs = steps.flatMap(jobsOf);
    const total = jobs.reduce((sum, job) => sum + job[rows], 0);
    const totalCost = steps.reduce((sum, step) => sum + step[cost], 0);
    return { rowCount: total / jobs.length, cost: totalCost / jobs.length };
  });
  return fittedCost(points);
}

/**
 * Measured times of jobs by fitted ones. The quantiles are those of milliseconds and not of jobs, since the times of small
 * jobs vary most and matter least. Their mean is 1.
 */
function spreadOf(jobs: readonly SizedJob[], computeMs: LinearCost): number[] {
  const ratios = jobs
    .map((job) => {
      const fittedMs = Math.max(costAt(computeMs, job.paddedRowCount), 1e-3);
      return { fittedMs, ratio: Math.max(job.computeMs, 1e-3) / fittedMs };
    })
    .sort((a, b) => a.ratio - b.ratio);
  const totalMs = ratios.reduce((sum, { fittedMs }) => sum + fittedMs, 0);
  let [place, passedMs] = [0, 0];
  const quantiles = Array.from({ length: SPREAD_COUNT }, (_, quantile) => {
    const targetMs = ((quantile + 0.5) * totalMs) / SPREAD_COUNT;
    while (place + 1 < ratios.length && passedMs + at(ratios, place).fittedMs < targetMs) {
      passedMs += at(ratios, place).fittedMs;
      place += 1;
    }
    return at(ratios, place).ratio;
  });
  const mean = meanOf(quantiles);
  return quantiles.map((ratio) => ratio / mean);
}

/** The line through both points, or through the first one where a part of it would be below 0. */
function lineFrom(first: CostPoint, second: CostPoint): LinearCost {
  const perRow = (first.cost - second.cost) / (first.rowCount - second.rowCount);
  // Not a number, or not finite, where both sizes have the same jobs.
  if (!(perRow > 0 && Number.isFinite(perRow))) return { perJob: first.cost, perRow: 0 };
  const perJob = first.cost - perRow * first.rowCount;
  return perJob >= 0 ? { perJob, perRow } : { perJob: 0, perRow: first.cost / first.rowCount };
}

/** The same for each job. */
function idleMsOf(costs: StepCosts, steps: MeasuredSteps): number {
  const measuredMs = stepMsOf(steps);
  const whole = { dividesJobs: false, overlap: 1, partByteCountMax: 0 };
  const orders = steps.map(({ planned }) => simulatedOrders(planned, costs, 1, whole));
  const modelledMs = (idleMs: number): number => {
    const typical = { ...costs, idleMs: { perJob: idleMs, perRow: 0 }, computeSpread: [1] };
    const stream = randomStream(1, 'idle');
    return median(orders.map((ofStep) => simulateStep(typical, ofStep, 1, stream).stepMs));
  };
  let [low, high] = [0, measuredMs];
  if (modelledMs(low) >= measuredMs) return 0;
  for (let halving = 0; halving < HALVING_COUNT; halving += 1) {
    const middle = (low + high) / 2;
    if (modelledMs(middle) < measuredMs) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function medianOr0(values: readonly number[]): number {
  return values.length === 0 ? 0 : median(values);
}
