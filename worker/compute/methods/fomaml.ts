/**
 * First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2):
 *
 *   phi_i = theta after innerSteps steps on S_i       (personal blocks; the trunk stays)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)           (with respect to phi_i, trunk and row pack)
 *
 * With a cold share it also asks for a good model before any adaptation: see `cold-term.ts`.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Variables } from '../models/fields.js';
import { withColdTerm } from './cold-term.js';
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
  let personal: Variables | null = query === null ? null : personalCopies(job, query.plan);
  if (support !== null) {
    personal ??= personalCopies(job, support.plan);
    const shared = trunkOf(support);
    for (let step = 0; step < innerSteps; step += 1) {
      const moved = innerStep(support, shared, personal, innerRate);
      supportLosses ??= moved.losses;
      personal = moved.personal;
    }
  }
  return withColdTerm(job, taskWeights, coldShare, (weights) => {
    if (query === null || personal === null)
      return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses };
    const { gradients, rowGradient, losses } = lossGradient(query, personal, weights);
    return { gradients, rowGradient, queryLosses: losses, supportLosses };
  });
}
