/** Judges the norms of delivered sums during a run. */

import type { TrustConfig } from '../../shared/config/trust-config.js';
import { FalseResultsError } from '../dispatch/second-opinions.js';
import { GradientNormBound } from '../trust/gradient-norm-bound.js';
import type { JudgeNorm } from './step-sum.js';

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
