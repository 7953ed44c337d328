/** The settings that methods with an inner loop have in common, and the plan that follows from them. */

import { z } from 'zod';
import type { InnerLoop } from './inner-loop.js';
import { levelShiftOf, LevelShiftSchema } from './level-shift-settings.js';
import type { MethodPlan, OuterGradient } from './method.js';

export const innerLoopSettings = {
  innerSteps: z
    .int()
    .positive()
    .max(100)
    .default(3)
    .describe('Gradient steps that a task takes on its support set.'),
  innerRate: z.number().positive().max(100).default(0.1).describe('The rate of the inner steps.'),
  coldShare: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe(
      'Share of the outer loss that is the loss before adaptation, over support and query rows: the cold-start term of the unified loss of Pan et al. (SIGIR 2019). 0 is the method alone.',
    ),
  levelShift: LevelShiftSchema.default(false).describe(
    'Adds one shift of the logits per task after its inner steps: the mode under a normal prior whose deviation is learned in the outer loop (an empirical-Bayes level). `{ features }` adds one more shift for each value of these category features. Where no block is personal, the evaluated inner rate divided by `innerRate` is a factor of the prior variances.',
  ),
};

/** The settings of methods that exist in both orders. */
export const orderSettings = {
  order: z
    .enum(['first', 'second'])
    .default('first')
    .describe(
      '`first` treats the inner gradients as constants; `second` differentiates through them.',
    ),
};

type InnerLoopSettings = z.infer<z.ZodObject<typeof innerLoopSettings>>;

/**
 * The inner loop and cold term of a method with these settings.
 *
 * @param own what the method does in its own way.
 */
export function adaptationBy(
  settings: InnerLoopSettings,
  own: Partial<Omit<InnerLoop, 'steps'>> = {},
): Pick<MethodPlan, 'innerLoop' | 'cold'> {
  const { innerSteps, innerRate, levelShift, coldShare } = settings;
  const steps = { count: innerSteps, rate: innerRate };
  return {
    innerLoop: { steps, reads: {}, shift: levelShiftOf(levelShift), ...own },
    cold: coldShare === 0 ? null : { share: coldShare, rows: 'all' },
  };
}

/** The outer gradient of a method that is differentiated in the order of its settings. */
export function derivativeBy({ order }: z.infer<z.ZodObject<typeof orderSettings>>): OuterGradient {
  return { kind: 'derivative', order };
}

export const FIRST_ORDER: OuterGradient = { kind: 'derivative', order: 'first' };
