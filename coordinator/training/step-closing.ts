/**
 * Which leaves of an outer step count. By the closing rule of the run, the step may end without some of its
 * deliveries; a replay leaves out the leaves that another run left out.
 */

import type { TrainingState } from '../checkpoints/training-state.js';
import type { CallTerms } from '../dispatch/dispatcher.js';
import type { StepPlan } from '../plan/step-plan.js';
import { QianmoError } from '../../shared/base/errors.js';
import { ALL_RESULTS } from '../../shared/config/closing-config.js';
import { type JudgeNorm, type StepSum, taskWeightOf } from './step-sum.js';
import type { TrainOptions } from './train-options.js';
import type { TrustConfig } from '../../shared/config/trust-config.js';
import { FalseResultsError } from '../dispatch/second-opinions.js';
import { GradientNormBound } from '../trust/gradient-norm-bound.js';

interface ClosedStep {
  /** With a record of the leaves without a result, if there are some. */
  readonly state: TrainingState;
  /** The share of the task weights of the leaves with a result, above 0, at most 1. */
  readonly share: number;
}

export interface StepClosings {
  isLeftOut: (outerStep: number, leaf: number) => boolean;
  readonly terms: CallTerms;
  /** @throws QianmoError `data` if the leaves with a result have no weight. */
  close(sum: StepSum, plan: StepPlan, state: TrainingState): ClosedStep;
}

export function stepClosings({
  run: { config },
  start: { replay },
  caller: { sink },
}: Pick<TrainOptions, 'run' | 'start' | 'caller'>): StepClosings {
  const leftOutAt = new Map(
    replay?.leftOut.map(({ outerStep, leaves }) => [outerStep, new Set(leaves)] as const),
  );
  return {
    isLeftOut: (outerStep, leaf) => leftOutAt.get(outerStep)?.has(leaf) === true,
    terms: { closing: replay === undefined ? config.training.closing : ALL_RESULTS },
    close: (sum, plan, state) => {
      const leaves = sum.missingLeaves();
      if (leaves.length === 0) return { state, share: 1 };
      const { outerStep, leaves: planned } = plan;
      const isMissing = new Set(leaves);
      let share = 0;
      for (const leaf of planned.keys())
        if (!isMissing.has(leaf))
          share += taskWeightOf(plan, { first: leaf, end: leaf + 1 }, 'warm');
      if (!(share > 0)) throw noWeight(outerStep);
      const leafCount = planned.length;
      sink({
        kind: 'leaves-left-out',
        outerStep,
        admittedLeafCount: leafCount - leaves.length,
        leafCount,
      });
      return {
        state: { ...state, leftOut: [...(state.leftOut ?? []), { outerStep, leaves }] },
        share,
      };
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

export class GradientNorms {
  readonly #bound: GradientNormBound;

  constructor({ gradientNormQuantile: quantile, gradientNormMultipleMax: multiple }: TrustConfig) {
    this.#bound = new GradientNormBound({ quantile, multiple });
  }

  /** Begins an outer step. Nodes have unequal numbers of tasks, so a norm is divided by the sum of their weights. */
  begin(): JudgeNorm {
    const bound = this.#bound;
    bound.begin();
    return ({ norm, taskWeight, isConfirmed }) => {
      const meanNorm = taskWeight > 0 ? norm / taskWeight : 0;
      if (!isConfirmed && bound.isDoubtful(meanNorm)) return false;
      bound.admit(meanNorm, isConfirmed);
      return true;
    };
  }

  /**
   * To be called when all sums of the step are there.
   *
   * @throws FalseResultsError when one that was admitted before there was a bound is above it.
   */
  assertPlausible(): void {
    if (!this.#bound.isStepDoubtful) return;
    throw new FalseResultsError({
      kind: 'failed',
      what: 'the norm of a gradient is far above those of the others',
      cure: 'raise trust.gradientNormMultipleMax if these norms are usual',
    });
  }
}
