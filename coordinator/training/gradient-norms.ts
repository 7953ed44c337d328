/** Judges the norms of job gradients during a run. */

import { at } from '../../shared/base/arrays.js';
import type { TrustConfig } from '../../shared/config/trust-config.js';
import { FalseResultsError } from '../dispatch/second-opinions.js';
import { GradientNormBound } from '../trust/gradient-norm-bound.js';
import type { JudgeNorm } from './gradients/job-gradient.js';

export class GradientNorms {
  readonly #bound: GradientNormBound;

  constructor({ gradientNormQuantile: quantile, gradientNormMultipleMax: multiple }: TrustConfig) {
    this.#bound = new GradientNormBound({ quantile, multiple });
  }

  /**
   * Begins an outer step. Jobs and parts of jobs have unequal numbers of tasks, so a norm is divided by the sum of
   * their task weights: it is that of a mean over its tasks.
   *
   * @param weights of the jobs, by job index
   */
  judgeOf(weights: readonly number[]): JudgeNorm {
    const bound = this.#bound;
    bound.begin();
    return ({ jobIndex, norm, isConfirmed }) => {
      const weight = at(weights, jobIndex);
      const meanNorm = weight > 0 ? norm / weight : 0;
      if (!isConfirmed && bound.isDoubtful(meanNorm)) return false;
      bound.admit(meanNorm, isConfirmed);
      return true;
    };
  }

  /**
   * To be called when all gradients of the step are there.
   *
   * @throws FalseResultsError when one that was admitted before there was a bound is above it.
   */
  requireSound(): void {
    if (!this.#bound.isStepDoubtful) return;
    throw new FalseResultsError({
      kind: 'failed',
      what: 'the norm of a gradient is far above those of the others',
      cure: 'raise trust.gradientNormMultipleMax if these norms are usual',
    });
  }
}
