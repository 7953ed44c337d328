/**
 * Reptile (Nichol, Achiam and Schulman, 2018, arXiv 1803.02999): the start moves towards where the
 * tasks' steps end,
 *
 *   phi_i = theta after innerSteps steps on S_i (and, with continuesOnQuery, as many on Q_i)
 *   g     = sum_i w_i (theta - phi_i)                    (personal blocks)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)              (trunk and row pack, phi_i fixed)
 *
 * The paper has no trunk and steps by plain descent: `training.optimizer: { kind: sgd }`, whose rate
 * is its epsilon.
 */

import { z } from 'zod';
import { adaptationBy, innerLoopSettings } from './inner-loop/inner-loop-settings.js';
import { fixedRates, fixedRateSettings, rateFactorMisfits } from './inner-loop/inner-rates.js';
import { defineMethod } from './inner-loop/method.js';

export const reptile = defineMethod({
  settings: z.strictObject({
    kind: z.literal('reptile'),
    ...innerLoopSettings,
    ...fixedRateSettings,
    continuesOnQuery: z
      .boolean()
      .default(false)
      .describe(
        'Continues the steps over the query rows, in as many minibatches. The paper does not divide rows.',
      ),
  }),
  planOf: ({ continuesOnQuery, ...settings }) => ({
    ...adaptationBy(settings, fixedRates(settings.rateFactors)),
    outer: { kind: 'displacement', continuesOnQuery },
  }),
  misfitsOf: (settings, { personal }) => rateFactorMisfits(settings, personal),
});
