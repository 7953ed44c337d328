/**
 * Meta-SGD (Li, Zhou, Chen and Li, 2017, arXiv 1707.09835): the inner rate is learned with the
 * initialisation, one for each parameter of the personal blocks,
 *
 *   phi_i <- phi_i - alpha .* grad L(phi_i ; S_i)        alpha = innerRate * r, r = 1 at first
 *   g     = sum_i w_i * d/d(theta, r) L(phi_i ; Q_i)
 *
 * As in the paper, alpha may become negative; `clampsRates` uses max(r, 0) in its place.
 */

import { z } from 'zod';
import {
  adaptationBy,
  derivativeBy,
  innerLoopSettings,
  orderSettings,
} from './inner-loop/inner-loop-settings.js';
import {
  learnedRates,
  learnedRateSettings,
  rateFactorMisfits,
  rateGranularity,
} from './inner-loop/inner-rates.js';
import { defineMethod } from './inner-loop/method.js';

export const metaSgd = defineMethod({
  settings: z.strictObject({
    kind: z.literal('meta-sgd'),
    ...innerLoopSettings,
    ...orderSettings,
    order: orderSettings.order.default('second'),
    rates: rateGranularity.default('parameter'),
    ...learnedRateSettings,
  }),
  planOf: (settings) => {
    const { variables, ...stepping } = learnedRates({ ...settings, stepCount: null });
    return { ...adaptationBy(settings, stepping), outer: derivativeBy(settings), variables };
  },
  misfitsOf: (settings, { personal }) => rateFactorMisfits(settings, personal),
});
