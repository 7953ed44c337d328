/**
 * The level shift of an inner loop: its settings, and the prior deviations that it learns. What is
 * computed with them is written in `worker/compute/meta-gradients/shift-by-level.ts`.
 */

import { z } from 'zod';
import type { Variable } from '../../tensors/variable.js';
import type { LevelShift } from './inner-loop.js';
import type { ModelShape } from './method.js';
import { requireFeatures } from './support-features.js';

export const LevelShiftSchema = z.union([
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
export function levelShiftOf(setting: z.infer<typeof LevelShiftSchema>): LevelShift | null {
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
