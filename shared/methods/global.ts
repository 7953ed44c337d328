/**
 * One model for all adgroups: no inner loop, plain gradient over support and query rows alike.
 *
 *   g = sum_i w_i * grad L(theta ; S_i and Q_i)
 */

import { z } from 'zod';
import { defineMethod } from './inner-loop/method.js';

export const globalMethod = defineMethod({
  settings: z.strictObject({ kind: z.literal('global') }),
  planOf: () => ({ innerLoop: null }),
});
