/**
 * First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2):
 *
 *   phi_i = theta after innerSteps steps on S_i       (personal blocks; the trunk stays)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)           (with respect to phi_i, trunk and row pack)
 */

import type * as tfjs from '@tensorflow/tfjs';
import { innerStep } from './inner-loop.js';
import {
  lossGradient,
  passOf,
  personalCopies,
  trunkOf,
  type JobTensors,
  type MethodResult,
} from './method.js';

export function fomaml(
  job: JobTensors,
  taskWeights: tfjs.Tensor1D,
  { innerSteps, innerRate }: { readonly innerSteps: number; readonly innerRate: number },
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
  if (query === null || personal === null)
    return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses };
  const { losses, gradients, rowGradient } = lossGradient(query, personal, taskWeights);
  return { gradients, rowGradient, queryLosses: losses, supportLosses };
}
