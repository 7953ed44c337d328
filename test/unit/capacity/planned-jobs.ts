/** Outer steps that tests of capacity give to the model. */

import type { SampledSteps } from '../../../coordinator/capacity/sampled-steps.js';
import { sizeChoices } from '../../../coordinator/capacity/sampled-steps.js';
import type { StepCosts } from '../../../coordinator/capacity/step-costs.js';
import type { DivisibleJob } from '../../../coordinator/plan/orders/job-parts.js';

const none = { perJob: 0, perRow: 0 };
/** A row takes 1 ms; nothing else costs anything. */
export const computeAlone: StepCosts = {
  serialMs: 0,
  computeMs: { perJob: 0, perRow: 1 },
  computeSpread: [1],
  coordinatorMs: none,
  processorMs: none,
  idleMs: none,
  denseByteCount: 0,
  inputByteCount: none,
  outputByteCount: none,
  serverBytesPerMs: 1,
};

/** A job of one task for each micro-batch, which has as many rows as it costs. */
export function jobOfCosts(jobIndex: number, costs: readonly number[]): DivisibleJob {
  return {
    jobIndex,
    taskIndices: costs.map((_, place) => place),
    rowCount: costs.reduce((sum, cost) => sum + cost, 0),
    cut: costs.map((cost, place) => ({ taskPlaces: [place], rowCount: cost, cost })),
  };
}

/** Jobs of tasks of one row, each in one micro-batch. The last job has what is left. */
export function equalJobs(taskCount: number, tasksPerJob: number): DivisibleJob[] {
  return Array.from({ length: Math.ceil(taskCount / tasksPerJob) }, (_, jobIndex) =>
    jobOfCosts(jobIndex, [Math.min(tasksPerJob, taskCount - jobIndex * tasksPerJob)]),
  );
}

/** A run whose outer steps are all alike. */
export function alikeSteps(
  jobsOf: (jobSize: number) => readonly DivisibleJob[],
  { taskCount = 64, jobSize = 8, dividesJobs = false, overlap = 1 } = {},
): Pick<SampledSteps, 'drawn' | 'drawnCount' | 'jobSize' | 'jobSizes' | 'division' | 'stepsOf'> {
  return {
    ...{ drawn: 'tasks', drawnCount: taskCount, jobSize, jobSizes: sizeChoices(1, taskCount) },
    division: { dividesJobs, overlap, partByteCountMax: Infinity },
    stepsOf: (size) => [jobsOf(size)],
  };
}
