/** Restricts learning to the named variables and tables; the others are frozen. */

import { QianmoError } from '../../../shared/base/errors.js';
import { isNamed } from '../../../shared/models/learned-names.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { emptyOptimizerState, type GradientTransformation } from './gradient-transformation.js';

/**
 * Passes on the updates of the named variables, blocks of variables (`layer0` for its weight and
 * bias) and tables by feature. The others neither move nor count in the gradient's norm, and their
 * moments stay as they are.
 */
export function keepTrainable(trainable: readonly string[] | undefined): GradientTransformation {
  return {
    stage: 'trainable',
    init: () => emptyOptimizerState,
    update({ dense, rows }, state) {
      if (trainable === undefined) return [{ dense, rows }, state];
      const isKept = ([name]: readonly [string, unknown]): boolean =>
        trainable.some((named) => isNamed(name, named));
      return [
        { dense: new Map([...dense].filter(isKept)), rows: new Map([...rows].filter(isKept)) },
        state,
      ];
    },
  };
}

/** @throws QianmoError `usage` when neither the model nor the method has a given name. */
export function requireTrainable(
  { variables, tables }: Pick<ModelSpec, 'variables' | 'tables'>,
  trainable: readonly string[] | undefined,
): void {
  const names = [...variables, ...tables].map(({ name }) => name);
  const unknown = trainable?.find((named) => !names.some((name) => isNamed(name, named)));
  if (unknown === undefined) return;
  const blocks = new Set(names.map((name) => name.split('.')[0] ?? name));
  throw new QianmoError({
    kind: 'usage',
    what: 'nothing of this name can be trained',
    where: 'training.trainable',
    expected: `some of ${[...blocks].join(', ')}`,
    found: unknown,
    cure: 'name variables, their blocks or features with a table',
  });
}
