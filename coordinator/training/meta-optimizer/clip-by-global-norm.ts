/**
 * Scales the whole meta-gradient down to a maximum L2 norm over dense tensors and rows together.
 */

import { DivergenceError } from '../../../shared/base/errors.js';
import type { MetaGradient } from './meta-gradient.js';
import {
  emptyOptimizerState,
  scaledUpdates,
  type GradientTransformation,
} from './gradient-transformation.js';

/** The norm of the last meta-gradient before clipping, which the run reports. */
export const GRADIENT_NORM = 'clip.gradientNorm';

/**
 * g * min(1, normMax / |g|) (Pascanu et al., ICML 2013).
 *
 * @throws DivergenceError when the norm is not finite. Every admitted gradient is finite, so the
 *   sum exceeds float32: training has diverged.
 */
export function clipByGlobalNorm(normMax: number): GradientTransformation {
  return {
    stage: 'clip',
    init: () => ({ ...emptyOptimizerState, scalars: { [GRADIENT_NORM]: 0 } }),
    update(updates, state) {
      const norm = globalNormOf(updates);
      if (!Number.isFinite(norm))
        throw new DivergenceError({
          kind: 'failed',
          what: 'training has diverged: the sum of finite task gradients is not finite',
          expected: 'a finite norm of the meta-gradient',
          found: `${norm}`,
          cure: 'lower method.innerRate or training.optimizer.rate and train again',
        });
      const renewed = { ...state, scalars: { ...state.scalars, [GRADIENT_NORM]: norm } };
      if (norm <= normMax) return [updates, renewed];
      const scale = normMax / norm;
      return [scaledUpdates(updates, scale), renewed];
    },
  };
}

/** Sums in float64, variables and tables in the order of the spec, rows in the order of ids. */
function globalNormOf({ dense, rows }: MetaGradient): number {
  let squares = 0;
  for (const { values } of [...dense.values(), ...rows.values()])
    for (let index = 0; index < values.length; index += 1) squares += (values[index] ?? NaN) ** 2;
  return Math.sqrt(squares);
}
