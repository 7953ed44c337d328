/**
 * The cold term of an outer loss, which asks for a good model before any adaptation, on support and
 * query rows alike (the unified loss of Pan et al., SIGIR 2019, on whole models):
 *
 *   g = (1 - c) sum_i w_i grad (warm loss)_i + c sum_i v_i grad L(theta ; S_i and Q_i)
 *
 * where v_i weighs by the rows of that term as w_i does by the query rows.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { variableOf } from '../models/fields.js';
import { globalMethod } from './global.js';
import type { JobTensors, MethodResult, TaskWeights } from './method.js';

/**
 * @param warm what the method makes of the weights `(1 - c) w_i`.
 * @param unadapted what the global method makes of `c v_i`.
 */
export function withColdTerm(
  job: JobTensors,
  taskWeights: TaskWeights,
  coldShare: number,
  warm: (weights: tfjs.Tensor1D) => MethodResult,
  unadapted = globalMethod,
): MethodResult {
  if (coldShare === 0) return warm(taskWeights.warm);
  const { tf } = job.engine;
  const adapted = warm(tf.mul<tfjs.Tensor1D>(taskWeights.warm, 1 - coldShare));
  const cold = unadapted(job, tf.mul<tfjs.Tensor1D>(taskWeights.cold, coldShare));
  return {
    ...adapted,
    gradients: sumOf(tf, adapted.gradients, cold.gradients),
    rowGradient: addOrKeep(tf, adapted.rowGradient, cold.rowGradient),
  };
}

/** Either has gradients of all variables or of none. */
function sumOf(
  tf: typeof tfjs,
  warm: ReadonlyMap<string, tfjs.Tensor>,
  cold: ReadonlyMap<string, tfjs.Tensor>,
): ReadonlyMap<string, tfjs.Tensor> {
  if (warm.size === 0 || cold.size === 0) return warm.size === 0 ? cold : warm;
  return new Map(
    [...warm].map(([name, gradient]) => [name, tf.add(gradient, variableOf(cold, name))]),
  );
}

function addOrKeep(
  tf: typeof tfjs,
  warm: tfjs.Tensor2D | null,
  cold: tfjs.Tensor2D | null,
): tfjs.Tensor2D | null {
  return warm === null || cold === null ? (warm ?? cold) : tf.add<tfjs.Tensor2D>(warm, cold);
}
