/**
 * First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2):
 *
 *   phi_i = theta after innerSteps steps on S_i       (personal blocks; the trunk stays)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)           (with respect to phi_i, trunk and row pack)
 */

import { z } from 'zod';
import { adaptationBy, FIRST_ORDER, innerLoopSettings } from './inner-loop/inner-loop-settings.js';
import { defineMethod } from './inner-loop/method.js';

export const fomaml = defineMethod({
  settings: z.strictObject({
    kind: z.literal('fomaml'),
    ...innerLoopSettings,
  }),
  planOf: (settings) => ({
    ...adaptationBy(settings),
    outer: FIRST_ORDER,
  }),
});
