/** What of a run may learn: the rest of variables and tables is frozen. */

import { QianmoError } from '../../../shared/base/errors.js';
import { isNamed } from '../../../shared/models/learned-names.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { emptyOptimizerState, type GradientTransformation } from './gradient-transformation.js';

/**
 * Passes on the updates of what is named: variables, blocks of them (`layer0` for its weight and
 * bias) and tables by feature. What is not named neither moves nor counts in the gradient's norm,
 * and moments that it may have stay as they are.
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

/** @throws QianmoError of kind `usage` when a name is nothing of the model's or the method's. */
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
