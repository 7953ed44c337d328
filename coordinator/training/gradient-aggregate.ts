/** The gradients of an outer step's jobs become its meta-gradient here. */

import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { StepPlan } from '../plan/step-plan.js';
import type { JobGradient } from './job-gradient.js';
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

/** By job index, the sum of the weights of a job's tasks. */
export function jobWeightsOf({ jobs }: Pick<StepPlan, 'jobs'>): number[] {
  return jobs.map(({ taskWeights, coldTaskWeights }) =>
    [...taskWeights, ...(coldTaskWeights ?? [])].reduce((sum, weight) => sum + weight, 0),
  );
}
