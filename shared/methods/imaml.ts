/**
 * Implicit MAML (Rajeswaran, Finn, Kakade and Levine, NeurIPS 2019):
 *
 *   phi_i = argmin  L(phi ; S_i) + proximalWeight / 2 |phi - theta|^2     (by innerSteps steps)
 *   v_i   = (I + H_i / proximalWeight)^-1 w_i grad L(phi_i ; Q_i)         (H_i: Hessian of L on S_i)
 *
 * v_i by conjugate gradients. The memory does not depend on the number of inner steps, and the
 * gradient does not depend on how phi_i was found; it is exact where phi_i is the minimum. The gradient
 * of trunk and row pack is derived in `worker/compute/meta-gradients/implicit-path.ts`.
 */

import { z } from 'zod';
import { adaptationBy, innerLoopSettings } from './inner-loop/inner-loop-settings.js';
import { fixedRates, fixedRateSettings, rateFactorMisfits } from './inner-loop/inner-rates.js';
import { defineMethod } from './inner-loop/method.js';

export const imaml = defineMethod({
  settings: z.strictObject({
    kind: z.literal('imaml'),
    ...innerLoopSettings,
    ...fixedRateSettings,
    innerSteps: innerLoopSettings.innerSteps.default(10),
    proximalWeight: z
      .number()
      .positive()
      .max(10_000)
      .default(1)
      .describe(
        'Weight of the pull towards the start (lambda in the paper, which uses 2 for images).',
      ),
    iterationCount: z
      .int()
      .positive()
      .max(100)
      .default(5)
      .describe(
        'Conjugate-gradient iterations. As many as a task has personal parameters are exact.',
      ),
  }),
  planOf: ({ iterationCount, proximalWeight, ...settings }) => ({
    ...adaptationBy(settings, {
      steps: { proximalWeight },
      ...fixedRates(settings.rateFactors),
    }),
    outer: { kind: 'implicit', iterationCount },
  }),
  misfitsOf: (settings, { personal }) => rateFactorMisfits(settings, personal),
});
