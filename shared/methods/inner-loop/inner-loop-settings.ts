/**
 * The settings that methods with an inner loop have in common, the level shift among them, and the plan that follows.
 * What a level shift computes is written in `worker/compute/meta-gradients/shift-by-level.ts`.
 */

import { z } from 'zod';
import type { InnerLoop, LevelShift } from './inner-loop.js';
import type { MethodPlan, OuterGradient, ModelShape } from './method.js';
import type { Variable } from '../../tensors/named-tensors.js';
import { requireFeatures } from './support-features.js';

const LevelShiftSchema = z.union([
  z.boolean(),
  z.strictObject({
    features: z
      .array(z.string().min(1))
      .min(1)
      .describe('The category features whose values have a shift each.'),
  }),
]);

/** `[1]`: of the level. */
export const LEVEL_DEVIATION = 'levelShift.deviation';
/** `[features.length]`: of the values of each feature. */
export const VALUE_DEVIATIONS = 'levelShift.valueDeviations';
/** Logarithm of a deviation over its variable: a step of Adam moves it by a few percent. */
export const LOG_DEVIATION_SCALE = 10;
/** In logits, before training. */
const INITIAL_LEVEL_DEVIATION = 0.5;
const INITIAL_VALUE_DEVIATION = 0.2;

/** Null: no shift. `true` is the level alone. */
function levelShiftOf(setting: z.infer<typeof LevelShiftSchema>): LevelShift | null {
  if (typeof setting !== 'boolean') return setting;
  return setting ? { features: [] } : null;
}

/** The variables that a shift learns: its prior deviations. */
export function levelShiftVariables(shift: LevelShift | null, model: ModelShape): Variable[] {
  if (shift === null) return [];
  const { features } = shift;
  requireFeatures(model, features, 'method.levelShift.features', model.categoryFeatures);
  const deviation = (name: string, count: number, value: number): Variable => ({
    name,
    shape: [count],
    block: 'method',
    initial: { kind: 'constant', value: Math.log(value) / LOG_DEVIATION_SCALE },
  });
  return [
    deviation(LEVEL_DEVIATION, 1, INITIAL_LEVEL_DEVIATION),
    ...(features.length === 0
      ? []
      : [deviation(VALUE_DEVIATIONS, features.length, INITIAL_VALUE_DEVIATION)]),
  ];
}

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
    .describe(
      'The weight of the support loss when a task adapts. A gradient step is this times the gradient.',
    ),
  coldShare: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe(
      'Share of the outer loss that is the loss before adaptation, over support and query rows: the cold-start term of the unified loss of Pan et al. (SIGIR 2019). 0 is the method alone.',
    ),
  levelShift: LevelShiftSchema.default(false).describe(
    'Adds one shift of the logits per task after its inner steps: the mode under a normal prior whose deviation is learned in the outer loop (an empirical-Bayes level). `{ features }` adds one more shift for each value of these category features. The prior is learned at a weight of 1 of the support loss; where no block is personal, an evaluated inner rate weighs it by its ratio to `innerRate`.',
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
