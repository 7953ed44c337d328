/** The support loss of an outer step as it is reported: a batch of trunk rows has no support rows, and its weight does not count. */

import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf, type MethodConfig } from '../../../shared/methods/methods.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import type { StepPlan } from '../../plan/step-plan.js';
import type { StepLosses } from './loss-sums.js';

interface ReportedStep {
  readonly plan: Pick<StepPlan, 'jobs'>;
  readonly method: MethodConfig;
  readonly store: Pick<TaskStore, 'tasks'>;
  /** Indices of the jobs that the step ended without. */
  readonly leftOut: readonly number[];
}

/**
 * The losses with the mean of the support losses over the adgroups alone. Where nothing adapts, support rows are rows like
 * others and the losses are as they were.
 */
export function withSupportOfAdgroups(
  losses: StepLosses,
  { plan, method, store, leftOut }: ReportedStep,
): StepLosses {
  if (!adapts(methodPlanOf(method))) return losses;
  let [total, ofAdgroups] = [0, 0];
  for (const { jobIndex, taskIndices, taskWeights } of plan.jobs) {
    if (leftOut.includes(jobIndex)) continue;
    for (const [place, weight] of taskWeights.entries()) {
      total += weight;
      if (store.tasks[taskIndices[place] ?? -1]?.split !== 'trunk') ofAdgroups += weight;
    }
  }
  if (!(ofAdgroups > 0)) return losses;
  return { ...losses, supportLoss: losses.supportLoss * (total / ofAdgroups) };
}
