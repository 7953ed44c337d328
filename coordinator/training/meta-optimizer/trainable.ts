/** Restricts learning to the named variables and tables; the others are frozen. */

import { QianmoError } from '../../../shared/base/errors.js';
import { isCovered, isNamed } from '../../../shared/models/learned-names.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { emptyOptimizerState, type GradientTransformation } from './gradient-transformation.js';

/**
 * Passes on the updates of the named variables, blocks of variables (`layer0` for its weight and
 * bias), tables by feature and, by the name of the method, all variables of the method. The others neither move nor count in the gradient's norm, and their
 * moments stay as they are.
 */
export function keepTrainable(
  trainable: readonly string[] | undefined,
  variables: ModelSpec['variables'],
): GradientTransformation {
  const blocks = new Map(variables.map(({ name, block }) => [name, block]));
  return {
    stage: 'trainable',
    init: () => emptyOptimizerState,
    update({ dense, rows }, state) {
      if (trainable === undefined) return [{ dense, rows }, state];
      const isKept = ([name]: readonly [string, unknown]): boolean => {
        const block = blocks.get(name);
        const learned = block === undefined ? { name } : { name, block };
        return trainable.some((named) => isCovered(learned, named));
      };
      return [
        { dense: new Map([...dense].filter(isKept)), rows: new Map([...rows].filter(isKept)) },
        state,
      ];
    },
  };
}

/** @throws QianmoError `usage` when neither the model nor the method has a given name. */
export function assertTrainable(
  { variables, tables }: Pick<ModelSpec, 'variables' | 'tables'>,
  trainable: readonly string[] | undefined,
  methodKind: string,
): void {
  const names = [...variables, ...tables].map(({ name }) => name);
  const methods = variables.some(({ block }) => block === 'method') ? [methodKind] : [];
  const unknown = trainable?.find(
    (named) => !methods.includes(named) && !names.some((name) => isNamed(name, named)),
  );
  if (unknown === undefined) return;
  const blocks = new Set(names.map((name) => name.split('.')[0] ?? name));
  throw new QianmoError({
    kind: 'usage',
    what: 'nothing of this name can be trained',
    where: 'training.trainable',
    expected: `some of ${[...blocks, ...methods].join(', ')}`,
    found: unknown,
    cure: 'name variables, their blocks, features with a table, or the method for all its variables',
  });
}
