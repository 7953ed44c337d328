/**
 * The level shift of an inner loop: its settings, and the prior deviations that it learns. What is
 * computed with them is written in `worker/compute/meta-gradients/shift-by-level.ts`.
 */

import { z } from 'zod';
import type { Variable } from '../../tensors/variable.js';
import type { InnerLoop, LevelShift, ModelShape } from './method.js';
import { requireFeatures } from './support-features.js';

export const LevelShiftSchema = z.union([
  z.boolean(),
  z.strictObject({ features: z.array(z.string().min(1)).min(1) }),
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
export function levelShiftOf({ levelShift }: Pick<InnerLoop, 'levelShift'>): LevelShift | null {
  if (typeof levelShift !== 'boolean') return levelShift;
  return levelShift ? { features: [] } : null;
}

export function levelShiftVariables(
  loop: Pick<InnerLoop, 'levelShift'> | null,
  model: ModelShape,
): Variable[] {
  const settings = loop === null ? null : levelShiftOf(loop);
  if (settings === null) return [];
  const { features } = settings;
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
