/**
 * The variables and tables that outer steps change. A method may keep the model and learn its own
 * variables alone, and `training.trainable` may restrict what learns. The rest is frozen.
 */

import type { Variable } from '../tensors/variable.js';

export interface LearnedNames {
  readonly variables: readonly string[];
  readonly tables: readonly string[];
}

/** @param learns with `method`, only the variables of block `method` learn. */
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

/** Returns whether a name of `trainable` is that of the variable or table, or of the block it belongs to. */
export function isNamed(name: string, named: string): boolean {
  return name === named || name.startsWith(`${named}.`);
}
