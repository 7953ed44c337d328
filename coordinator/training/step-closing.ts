/**
 * Which jobs of an outer step count. By the closing rule of the run, the step may end without some of its jobs; a
 * replay leaves out those that another run left out.
 */

import type { TrainingState } from '../checkpoints/training-state.js';
import type { CallTerms, JobOrder } from '../dispatch/dispatcher.js';
import type { StepPlan } from '../plan/step-plan.js';
import { QianmoError } from '../../shared/base/errors.js';
import { ALL_RESULTS } from '../../shared/config/closing-config.js';
import type { GradientAggregate } from './gradient-aggregate.js';
import type { TrainOptions } from './train-options.js';

export interface StepClosings {
  /** The orders of an outer step whose results can count. */
  ordersOf: (orders: readonly JobOrder[]) => readonly JobOrder[];
  readonly terms: CallTerms;
  /**
   * Ends the sum of an outer step. Returns the state with a record of the jobs without a result, if there are some.
   *
   * @throws QianmoError `data` if the jobs with a result have no weight.
   */
  close(sum: GradientAggregate, plan: StepPlan, state: TrainingState): TrainingState;
}

export function stepClosings({
  run: { config },
  start: { replay },
  caller: { sink },
}: Pick<TrainOptions, 'run' | 'start' | 'caller'>): StepClosings {
  const leftOutAt = new Map(
    replay?.leftOut.map(({ outerStep, jobs }) => [outerStep, new Set(jobs)] as const),
  );
  return {
    ordersOf: (orders) => {
      const leftOut = leftOutAt.get(orders[0]?.job.outerStep ?? -1);
      return leftOut === undefined
        ? orders
        : orders.filter(({ job }) => !leftOut.has(job.jobIndex));
    },
    terms: { closing: replay === undefined ? config.training.closing : ALL_RESULTS },
    close: (sum, { outerStep, jobs: planned }, state) => {
      const jobs = sum.missingJobs();
      if (jobs.length === 0) return state;
      const isMissing = new Set(jobs);
      const weights = planned.filter(({ jobIndex }) => !isMissing.has(jobIndex));
      const share = weights
        .flatMap(({ taskWeights }) => taskWeights)
        .reduce((total, weight) => total + weight, 0);
      if (!(share > 0)) throw noWeight(outerStep);
      sum.closeWithoutMissing(share);
      const [admittedJobCount, jobCount] = [weights.length, planned.length];
      sink({ kind: 'jobs-left-out', outerStep, admittedJobCount, jobCount });
      return { ...state, leftOut: [...(state.leftOut ?? []), { outerStep, jobs }] };
    },
  };
}

function noWeight(outerStep: number): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the tasks whose results arrived in time have no weight',
    where: `outer step ${outerStep}`,
    cure: 'raise the share in training.closing, or set training.taskWeight: uniform; then continue with --resume',
  });
}
