/**
 * The cold term of an outer loss judges the model before any adaptation, on support and query rows
 * alike (the unified loss of Pan et al., SIGIR 2019, on whole models):
 *
 *   g = (1 - c) sum_i w_i grad (warm loss)_i + c sum_i v_i grad L(start_i ; S_i and Q_i)
 *
 * where v_i follows from the rows of that term as w_i does from the query rows.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ColdTerm } from '../../../shared/methods/inner-loop/method.js';
import type { MetaGradientResult, TaskWeights } from './passes.js';

/** Gradients for given weights of the tasks. */
interface GradientTerms {
  /** After adaptation, for the weights `(1 - c) w_i`. */
  readonly warm: (weights: tfjs.Tensor1D) => MetaGradientResult;
  /** Before adaptation, for the weights `c v_i`. */
  readonly unadapted: (weights: tfjs.Tensor1D) => MetaGradientResult;
}

export function withColdTerm(
  tf: typeof tfjs,
  taskWeights: TaskWeights,
  term: ColdTerm | null,
  { warm, unadapted }: GradientTerms,
): MetaGradientResult {
  if (term === null) return warm(taskWeights.warm);
  const adapted = warm(tf.mul<tfjs.Tensor1D>(taskWeights.warm, 1 - term.share));
  const cold = unadapted(tf.mul<tfjs.Tensor1D>(taskWeights.cold, term.share));
  return {
    ...adapted,
    gradients: sumOf(tf, adapted.gradients, cold.gradients),
    rowGradient: addOrKeep(tf, adapted.rowGradient, cold.rowGradient),
  };
}

function sumOf(
  tf: typeof tfjs,
  warm: ReadonlyMap<string, tfjs.Tensor>,
  cold: ReadonlyMap<string, tfjs.Tensor>,
): ReadonlyMap<string, tfjs.Tensor> {
  const sum = new Map(warm);
  for (const [name, gradient] of cold) {
    const other = warm.get(name);
    sum.set(name, other === undefined ? gradient : tf.add(other, gradient));
  }
  return sum;
}

function addOrKeep(
  tf: typeof tfjs,
  warm: tfjs.Tensor2D | null,
  cold: tfjs.Tensor2D | null,
): tfjs.Tensor2D | null {
  return warm === null || cold === null ? (warm ?? cold) : tf.add<tfjs.Tensor2D>(warm, cold);
}
