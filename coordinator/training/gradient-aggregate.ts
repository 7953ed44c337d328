/** The gradients of an outer step's jobs become its meta-gradient here. */

import { at } from '../../shared/base/arrays.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import { wholeJobs, type JobPart } from '../plan/orders/job-parts.js';
import type { StepPlan } from '../plan/step-plan.js';
import type { JobGradient } from './gradients/job-gradient.js';
import type { StepLosses } from './losses/loss-sums.js';
import type { MetaGradient } from './meta-optimizer/meta-gradient.js';

/**
 * One aggregate serves all outer steps of a run. `begin` starts the next step and overwrites the
 * meta-gradient of the previous one.
 */
export interface GradientAggregate {
  /**
   * @param layouts by job index, what each job's row pack holds.
   * @param weights by job index, the sum of the weights of its tasks.
   */
  begin(layouts: readonly RowPackLayout[], weights: readonly number[]): void;
  /** Takes one admitted gradient of each job of the step, in any order. */
  add(gradient: JobGradient): void;
  /** The jobs whose gradient has not arrived, ascending. */
  missingJobs(): number[];
  /**
   * Ends the outer step without the missing jobs, as if the others were all.
   *
   * @param share that of their task weights among all, above 0, at most 1
   */
  closeWithoutMissing(share: number): void;
  /** Its arrays are valid until `begin`, and the caller may write to them. */
  metaGradient(): MetaGradient;
  /** The losses of the gradients that were added. */
  readonly losses: StepLosses;
}

/** The sum of the weights of the tasks of each job. */
export function jobWeightsOf({ jobs }: Pick<StepPlan, 'jobs'>): number[] {
  return partWeightsOf({ jobs }, wholeJobs({ jobs }));
}

/** The sum of the weights of the tasks of each part. */
export function partWeightsOf(
  { jobs }: Pick<StepPlan, 'jobs'>,
  parts: readonly JobPart[],
): number[] {
  return parts.map(({ jobIndex, taskPlaces }) => {
    const { taskWeights, coldTaskWeights } = at(jobs, jobIndex);
    return [taskWeights, coldTaskWeights ?? []]
      .flatMap((weights) => taskPlaces.map((place) => weights[place] ?? 0))
      .reduce((sum, weight) => sum + weight, 0);
  });
}
