/**
 * One model for all adgroups: no inner loop, plain gradient over support and query rows alike.
 *
 *   g = sum_i w_i * grad L(theta ; S_i and Q_i)
 *
 * The reported losses are over all rows, before and after being the same.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { lossGradient, passOf, type JobTensors, type MethodResult } from './method.js';

export function globalMethod(job: JobTensors, taskWeights: tfjs.Tensor1D): MethodResult {
  const all = passOf(job, 'all', false);
  if (all === null)
    return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: null };
  const { losses, gradients, rowGradient } = lossGradient(all, new Map(), taskWeights);
  return { gradients, rowGradient, queryLosses: losses, supportLosses: losses };
}
