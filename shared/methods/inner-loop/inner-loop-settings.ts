/** The settings that methods with an inner loop have in common, and the plan that follows from them. */

import { z } from 'zod';
import type { InnerLoop, InnerSteps } from './inner-loop.js';
import { levelShiftOf, LevelShiftSchema } from './level-shift-settings.js';
import type { MethodPlan, OuterGradient } from './method.js';

export const innerLoopSettings = {
  innerSteps: z.int().positive().max(100).default(3),
  innerRate: z.number().positive().max(100).default(0.1),
  /**
   * Share of the outer loss that is the loss before adaptation, over support and query rows: the
   * cold-start term of the unified loss of Pan et al. (SIGIR 2019). 0 is the method alone.
   */
  coldShare: z.number().min(0).lt(1).default(0),
  /** Inner momentum; 0 is none. */
  momentum: z.number().min(0).lt(1).default(0),
  /**
   * Minibatches of the support rows, which the inner steps see in turn: of M, step s sees every M-th
   * row from the (s mod M)-th on. A task with too few rows stands still in the steps that see none.
   */
  supportBatches: z.literal([1, 2, 4, 8]).default(1),
  /**
   * One shift of the logits per task after its inner steps, the mode under a normal prior whose
   * deviation is learned in the outer loop: an empirical-Bayes level. As `{ features }` one more
   * for each value of these category features. Where no block is personal, the inner rate of a setting
   * that is evaluated, over this one, is a factor of the prior variances.
   */
  levelShift: LevelShiftSchema.default(false),
};

export const secondOrderSettings = {
  /**
   * What the way back through the inner steps reads: all that they computed, `kept`, or only the
   * blocks between them, the rest `recomputed`: slower, in the memory of one step.
   */
  path: z.enum(['kept', 'recomputed']).default('kept'),
};

/** Of methods that exist in both orders. */
export const orderSettings = {
  /** `first` takes the inner gradients for constants; `second` differentiates through them. */
  order: z.enum(['first', 'second']).default('first'),
  ...secondOrderSettings,
};

type InnerLoopSettings = z.infer<z.ZodObject<typeof innerLoopSettings>>;

/**
 * The inner loop and cold term of a method with these settings.
 *
 * @param own what the method does in its own way.
 */
export function adaptationBy(
  settings: InnerLoopSettings,
  own: Partial<Omit<InnerLoop, 'steps'>> & { readonly steps?: Partial<InnerSteps> } = {},
): Pick<MethodPlan, 'innerLoop' | 'cold'> {
  const { innerSteps, innerRate, momentum, supportBatches, levelShift, coldShare } = settings;
  const steps = { count: innerSteps, rate: innerRate, momentum, supportBatches, ...own.steps };
  return {
    innerLoop: { reads: {}, shift: levelShiftOf(levelShift), ...own, steps },
    cold: coldShare === 0 ? null : { share: coldShare, rows: 'all' },
  };
}

/** The outer gradient of a method that is differentiated in the order of its settings. */
export function derivativeBy({
  order,
  path,
}: z.infer<z.ZodObject<typeof orderSettings>>): OuterGradient {
  return { kind: 'derivative', order, path };
}

export const FIRST_ORDER: OuterGradient = { kind: 'derivative', order: 'first', path: 'kept' };
