/**
 * The bound on the norms of job gradients: a multiple of the running median of the norms that were admitted.
 * A gradient above it is not wrong, but doubted: others compute it again. So an honest gradient is
 * admitted in the end, and the bound changes no bit of an honest run.
 */

import { at } from '../../shared/base/arrays.js';
import type { TrustConfig } from '../../shared/config/training-config.js';
import { FalseResultsError } from '../dispatch/second-opinions.js';
import type { JudgeNorm } from './step-sum.js';

/** The latest norms, which are remembered. */
const NORM_COUNT_MAX = 256;
/** With fewer there is no bound. Of four, a quarter may be false. */
const NORM_COUNT_MIN = 4;

class GradientNormBound {
  readonly #multiple: number;
  /** In order of admission; the oldest is overwritten. */
  readonly #norms: number[] = [];
  #admittedCount = 0;
  /** Norms of this outer step that were admitted when there was no bound. */
  #unjudged: number[] = [];

  constructor(multiple: number) {
    this.#multiple = multiple;
  }

  /** Begins an outer step, or the same one anew. */
  begin(): void {
    this.#unjudged = [];
  }

  /** Infinity as long as too few norms are known. */
  get normMax(): number {
    if (this.#norms.length < NORM_COUNT_MIN) return Number.POSITIVE_INFINITY;
    const ascending = Float64Array.from(this.#norms).sort();
    return this.#multiple * at(ascending, (ascending.length - 1) >> 1);
  }

  isDoubtful(norm: number): boolean {
    return norm > this.normMax;
  }

  /**
   * Notes the norm of a gradient that is admitted.
   *
   * @param isConfirmed whether it is believed however large it is.
   */
  admit(norm: number, isConfirmed: boolean): void {
    if (!isConfirmed && this.normMax === Number.POSITIVE_INFINITY) this.#unjudged.push(norm);
    this.#norms[this.#admittedCount % NORM_COUNT_MAX] = norm;
    this.#admittedCount += 1;
  }

  /** Whether a gradient that was admitted in this outer step without a bound is above it now. */
  get isStepDoubtful(): boolean {
    return this.#unjudged.some((norm) => this.isDoubtful(norm));
  }
}

/** Judges the norms of the sums of a run, outer step by outer step. */
export class GradientNorms {
  readonly #bound: GradientNormBound;

  constructor({ gradientNormMultipleMax }: TrustConfig) {
    this.#bound = new GradientNormBound(gradientNormMultipleMax);
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
