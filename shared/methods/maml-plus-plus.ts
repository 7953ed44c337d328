/**
 * The MAML++ kit (Antoniou, Edwards and Storkey, ICLR 2019), each part by itself or with the others:
 *
 *   rates      r_(block, s): learned by block and step (section 4, "per-layer per-step"),
 *              phi_i <- phi_i - r_(block, s) * innerRate * grad L(phi_i ; S_i)
 *   loss       sum_s omega_s L(phi_i after s steps ; Q_i): omega from 1 / innerSteps each to the last
 *              step alone, in proportion to the outer steps done (over `multiStepOuterSteps`)
 *   order      first for `firstOrderOuterSteps` outer steps, then second
 *   outer rate cosine: `training.schedule: { decay: cosine }`
 *
 * The paper's normalisation by step has no counterpart: these models normalise nothing.
 */

import { z } from 'zod';
import {
  adaptationBy,
  derivativeBy,
  innerLoopSettings,
  orderSettings,
} from './inner-loop/inner-loop-settings.js';
import {
  fixedRates,
  learnedRates,
  learnedRateSettings,
  rateFactorMisfits,
  rateGranularity,
} from './inner-loop/inner-rates.js';
import { defineMethod, type SettingMisfit } from './inner-loop/method.js';

const RATES_BY_DEFAULT = 'block';

const outerStepCount = z.int().nonnegative().max(10_000_000).default(0);

export const mamlPlusPlus = defineMethod({
  settings: z.strictObject({
    kind: z.literal('maml++'),
    ...innerLoopSettings,
    ...orderSettings,
    order: orderSettings.order.default('second'),
    learnsRates: z
      .boolean()
      .default(true)
      .describe(
        'Learns the inner rates. Otherwise `innerRate` and `rateFactors` stay as they are.',
      ),
    rates: rateGranularity.default(RATES_BY_DEFAULT),
    ratesDifferByStep: z.boolean().default(true).describe('Learns rates of its own for each step.'),
    ...learnedRateSettings,
    multiStepOuterSteps: outerStepCount.describe(
      'Outer steps over which the weights of the losses after earlier inner steps fall to 0. 0 uses the loss after the last inner step only.',
    ),
    firstOrderOuterSteps: outerStepCount.describe(
      'Outer steps at the start of training that use the first order.',
    ),
  }),
  planOf: (settings) => {
    const outer = derivativeBy(settings);
    if (!settings.learnsRates)
      return { ...adaptationBy(settings, fixedRates(settings.rateFactors)), outer };
    const stepCount = settings.ratesDifferByStep ? settings.innerSteps : null;
    const { variables, ...stepping } = learnedRates({ ...settings, stepCount });
    return { ...adaptationBy(settings, stepping), outer, variables };
  },
  misfitsOf: (settings, { personal }) => [
    ...rateFactorMisfits(settings, personal),
    ...unreadRateMisfits(settings),
  ],
  settingsAt: (settings, outerStep) =>
    outerStep < settings.firstOrderOuterSteps ? { ...settings, order: 'first' as const } : settings,
  stepWeightsAt: ({ innerSteps, multiStepOuterSteps }, outerStep) => {
    if (outerStep >= multiStepOuterSteps) return null;
    const other = (1 - outerStep / multiStepOuterSteps) / innerSteps;
    return Array.from({ length: innerSteps }, (_, step) =>
      step < innerSteps - 1 ? other : 1 - other * (innerSteps - 1),
    );
  },
});

/** Settings of learned rates that differ from their defaults where no rate is learned. */
function unreadRateMisfits({
  learnsRates,
  rates,
  clampsRates,
}: {
  readonly learnsRates: boolean;
  readonly rates: z.infer<typeof rateGranularity>;
  readonly clampsRates: boolean;
}): SettingMisfit[] {
  if (learnsRates) return [];
  const unread = [
    ...(rates === RATES_BY_DEFAULT ? [] : ['rates']),
    ...(clampsRates ? ['clampsRates'] : []),
  ];
  return unread.map((setting) => ({
    path: [setting],
    message: 'only learnsRates: true reads it, and learnsRates is false',
  }));
}
