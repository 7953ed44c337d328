/**
 * What of a model outer steps change: a method may learn beside a model that stays, and
 * `training.trainable` may name what learns. The rest is frozen.
 */

import type { Variable } from '../tensors/variable.js';

export interface LearnedNames {
  readonly variables: readonly string[];
  readonly tables: readonly string[];
}

/** @param learns `method`: model and tables stay, the variables of block `method` learn alone. */
export function learnedNamesOf(
  {
    variables,
    tables,
  }: {
    readonly variables: readonly Variable[];
    readonly tables: readonly { readonly name: string }[];
  },
  learns: 'all' | 'method',
  trainable?: readonly string[],
): LearnedNames {
  const isTrainable = ({ name }: { readonly name: string }): boolean =>
    trainable?.some((named) => isNamed(name, named)) ?? true;
  const nameOf = ({ name }: { readonly name: string }): string => name;
  return {
    variables: variables
      .filter(({ block }) => learns === 'all' || block === 'method')
      .filter(isTrainable)
      .map(nameOf),
    tables: learns === 'all' ? tables.filter(isTrainable).map(nameOf) : [],
  };
}

/** Whether a name of `trainable` is that of the variable or table, or of the block it belongs to. */
export function isNamed(name: string, named: string): boolean {
  return name === named || name.startsWith(`${named}.`);
}
