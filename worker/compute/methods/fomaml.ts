/**
 * First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2):
 *
 *   phi_i = theta after innerSteps steps on S_i       (personal blocks; the trunk stays)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)           (with respect to phi_i, trunk and row pack)
 *
 * With a cold share c the outer loss also asks for a good model before any adaptation, on support
 * and query rows alike (the unified loss of Pan et al., SIGIR 2019, on whole models):
 *
 *   g     = sum_i (1 - c) w_i grad L(phi_i ; Q_i) + c v_i grad L(theta ; S_i and Q_i)
 *
 * where v_i weighs by the rows of that term as w_i does by the query rows.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { variableOf } from '../models/fields.js';
import { globalMethod } from './global.js';
import { innerStep } from './inner-loop.js';
import {
  lossGradient,
  passOf,
  personalCopies,
  trunkOf,
  type JobTensors,
  type MethodResult,
  type TaskWeights,
} from './method.js';

export interface FomamlSettings {
  readonly innerSteps: number;
  readonly innerRate: number;
  readonly coldShare: number;
}

export function fomaml(
  job: JobTensors,
  taskWeights: TaskWeights,
  { innerSteps, innerRate, coldShare }: FomamlSettings,
): MethodResult {
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  let supportLosses: tfjs.Tensor1D | null = null;
  let personal = query === null ? null : personalCopies(job, query.plan);
  if (support !== null) {
    let phi: ReadonlyMap<string, tfjs.Tensor> = personalCopies(job, support.plan);
    const shared = trunkOf(support);
    for (let step = 0; step < innerSteps; step += 1) {
      const moved = innerStep(support, shared, phi, innerRate);
      supportLosses ??= moved.losses;
      phi = moved.personal;
    }
    personal = new Map(phi);
  }
  const { tf } = job.engine;
  const warm =
    query === null || personal === null
      ? null
      : lossGradient(query, personal, tf.mul(taskWeights.warm, 1 - coldShare));
  const cold =
    coldShare === 0 ? null : globalMethod(job, tf.mul<tfjs.Tensor1D>(taskWeights.cold, coldShare));
  return {
    gradients: sumOf(tf, warm?.gradients ?? new Map(), cold?.gradients ?? new Map()),
    rowGradient: addOrKeep(tf, warm?.rowGradient ?? null, cold?.rowGradient ?? null),
    queryLosses: warm?.losses ?? null,
    supportLosses,
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
