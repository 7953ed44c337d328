/** The costs of an outer step, from steps that were measured with one worker and two sizes of jobs. */

import { at } from '../../shared/base/arrays.js';
import { predicted } from './capacity-plan.js';
import type { MeasuredStep } from './measured-dispatcher.js';
import { linearCost, type StepCosts } from './step-costs.js';

/** Steps with jobs of one size, on one worker. */
export interface MeasuredSize {
  readonly tasksPerJob: number;
  /** Without those in which the worker had no graphs yet. */
  readonly steps: readonly MeasuredStep[];
}

const SPREAD_COUNT_MAX = 1_000;
/** Halvings of the interval in which idleMs lies: its 60,000th part is left. */
const HALVING_COUNT = 16;

/**
 * All costs are medians. What a worker idles by a job is what remains: it is chosen so that the model
 * gives the measured time of a step with one worker and jobs of the first size.
 */
export function measuredCosts(
  tasksPerOuterStep: number,
  [first, second]: readonly [MeasuredSize, MeasuredSize],
  serverBytesPerMs: number,
): StepCosts {
  const line = (of: (step: MeasuredStep) => number): StepCosts['computeMs'] =>
    linearCost(
      { tasks: first.tasksPerJob, cost: median(first.steps.map(of)) },
      { tasks: second.tasksPerJob, cost: median(second.steps.map(of)) },
    );
  const ofJobs = first.steps.flatMap(({ computeMsOfJobs }) => computeMsOfJobs);
  const typical = meanOf(ofJobs);
  const costs: StepCosts = {
    tasksPerOuterStep,
    serialMs: median(first.steps.flatMap(({ serialMs }) => serialMs ?? [])),
    computeMs: line(({ computeMsOfJobs }) => median(computeMsOfJobs)),
    computeSpread: ofJobs.slice(0, SPREAD_COUNT_MAX).map((ms) => Math.max(ms, 1e-3) / typical),
    coordinatorMs: line(({ processorMs, computeMsOfJobs }) => processorMs / computeMsOfJobs.length),
    processorMs: linearCost(
      { tasks: first.tasksPerJob, cost: othersMsOfJob(first) },
      { tasks: second.tasksPerJob, cost: othersMsOfJob(second) },
    ),
    idleMs: 0,
    denseByteCount: median(first.steps.map(({ denseByteCount }) => denseByteCount)),
    inputByteCount: line(({ inputByteCount }) => inputByteCount),
    outputByteCount: line(({ outputByteCount }) => outputByteCount),
    serverBytesPerMs,
  };
  return { ...costs, idleMs: idleMsOf(costs, first) };
}

/** A mean, because the kernel counts in ticks that are longer than many a step. */
function othersMsOfJob({ steps }: MeasuredSize): number {
  const jobCount = steps.reduce((sum, { computeMsOfJobs }) => sum + computeMsOfJobs.length, 0);
  return steps.reduce((sum, step) => sum + step.othersProcessorMs, 0) / jobCount;
}

/** The measured time of a step, in milliseconds. */
export function stepMsOf({ steps }: MeasuredSize): number {
  return median(steps.map(({ dispatchMs, serialMs }) => dispatchMs + (serialMs ?? 0)));
}

function idleMsOf(costs: StepCosts, size: MeasuredSize): number {
  const measuredMs = stepMsOf(size);
  const modelledMs = (idleMs: number): number =>
    predicted({ ...costs, idleMs }, { workerCount: 1, tasksPerJob: size.tasksPerJob }).stepMs;
  let [low, high] = [0, measuredMs];
  if (modelledMs(low) >= measuredMs) return 0;
  for (let halving = 0; halving < HALVING_COUNT; halving += 1) {
    const middle = (low + high) / 2;
    if (modelledMs(middle) < measuredMs) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return 0;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? at(sorted, middle)
    : (at(sorted, middle - 1) + at(sorted, middle)) / 2;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
