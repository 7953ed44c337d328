/**
 * One model for all adgroups. No task adapts in training; the gradient is taken over support and query
 * rows alike.
 *
 *   g = sum_i w_i * grad L(theta ; S_i and Q_i)
 */

import { z } from 'zod';
import type { InnerLoop } from './inner-loop/inner-loop.js';
import { defineMethod } from './inner-loop/method.js';

/** Predictions may finetune tasks by plain gradient descent, at their own rates and numbers of steps. */
const PLAIN_DESCENT: InnerLoop = {
  steps: { count: 1, rate: 1 },
  reads: {},
};

export const globalMethod = defineMethod({
  settings: z.strictObject({ kind: z.literal('global') }),
  planOf: () => ({ innerLoop: PLAIN_DESCENT, outer: { kind: 'unadapted' }, cold: null }),
});
