/** Pulls the weights of the trunk towards 0 as a part of the gradient, before the optimizer sees it. */

import type { ModelSpec } from '../../../shared/models/model-spec.js';
import {
  emptyOptimizerState,
  mapDense,
  type GradientTransformation,
} from './gradient-transformation.js';

/**
 * gradient + ridge * parameter, which is the gradient of the loss plus ridge / 2 times the sum of squares (Hoerl and Kennard,
 * Technometrics 12(1), 1970). Variables without a gradient are frozen. Biases say what the level is, and have no reason to be near 0;
 * personal blocks are left alone, as by `decoupled-weight-decay.ts`.
 */
export function addRidge(ridge: number, variables: ModelSpec['variables']): GradientTransformation {
  const weights = new Set(
    variables.filter(({ name, block }) => block === 'trunk' && !isBias(name)).map((v) => v.name),
  );
  return {
    stage: 'ridge',
    init: () => emptyOptimizerState,
    update({ dense, rows }, state, params) {
      const pulled = mapDense(dense, (gradient, name) => {
        if (!weights.has(name)) return gradient;
        const parameter = params.dense.get(name);
        if (parameter === undefined) throw new Error(`no parameter ${name}`);
        for (let i = 0; i < gradient.length; i += 1)
          gradient[i] = (gradient[i] ?? NaN) + ridge * (parameter.values[i] ?? NaN);
        return gradient;
      });
      return [{ dense: pulled, rows }, state];
    },
  };
}

function isBias(name: string): boolean {
  return name === 'bias' || name.endsWith('.bias');
}
