/**
 * MAML of second order (Finn, Abbeel and Levine, ICML 2017):
 *
 *   phi_i(theta) = theta after innerSteps steps on S_i     (personal blocks; the trunk stays)
 *   g            = sum_i w_i * d/dtheta L(phi_i(theta) ; Q_i)
 *
 * with respect to everything that phi_i depends on: the personal blocks the steps began with, and
 * trunk and row pack, which shape the steps through the support rows as well.
 */

import { z } from 'zod';
import { adaptationBy, innerLoopSettings } from './inner-loop/inner-loop-settings.js';
import { defineMethod } from './inner-loop/method.js';

export const maml = defineMethod({
  settings: z.strictObject({
    kind: z.literal('maml'),
    ...innerLoopSettings,
  }),
  planOf: (settings) => ({
    ...adaptationBy(settings),
    outer: { kind: 'derivative', order: 'second' },
  }),
});
