/** The settings that methods with an inner loop have in common, and the plan that follows. */

import { z } from 'zod';
import type { InnerLoop } from './inner-loop.js';
import type { MethodPlan, OuterGradient } from './method.js';

/** Logarithm of a deviation over its variable: a step of Adam moves it by a few percent. */
export const LOG_DEVIATION_SCALE = 10;

export const innerLoopSettings = {
  innerSteps: z
    .int()
    .positive()
    .max(100)
    .default(3)
    .describe('Gradient steps that a task takes on its support set.'),
  innerRate: z
    .number()
    .positive()
    .max(100)
    .default(0.1)
    .describe('How far its support rows move a task: an inner step is this times the gradient.'),
  coldShare: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe(
      'Share of the outer loss that is the loss before adaptation, over support and query rows: the cold-start term of the unified loss of Pan et al. (SIGIR 2019). 0 is the method alone.',
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
  const { innerSteps, innerRate, coldShare } = settings;
  const steps = { count: innerSteps, rate: innerRate };
  return {
    innerLoop: { steps, reads: {}, ...own },
    cold: coldShare === 0 ? null : { share: coldShare, rows: 'all' },
  };
}

export const FIRST_ORDER: OuterGradient = { kind: 'derivative', order: 'first' };
