/**
 * The variables and tables that outer steps change. A method may keep the model and learn its own
 * variables alone, and `training.trainable` may restrict what learns. The rest is frozen.
 */

import { METHODS } from '../methods/methods.js';
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
  const isTrainable = (learned: { readonly name: string; readonly block?: string }): boolean =>
    trainable?.some((named) => isCovered(learned, named)) ?? true;
  const nameOf = ({ name }: { readonly name: string }): string => name;
  return {
    variables: variables
      .filter(({ block }) => learns === 'all' || block === 'method')
      .filter(isTrainable)
      .map(nameOf),
    tables: learns === 'all' ? tables.filter(isTrainable).map(nameOf) : [],
  };
}

/** Returns whether a name of `trainable` stands for a variable or table: its own, its block's, or for variables of the method that of a method. */
export function isCovered(
  { name, block }: { readonly name: string; readonly block?: string },
  named: string,
): boolean {
  return isNamed(name, named) || (block === 'method' && METHODS.kinds().includes(named));
}

/** Returns whether a name of `trainable` is that of the variable or table, or of the block it belongs to. */
export function isNamed(name: string, named: string): boolean {
  return name === named || name.startsWith(`${named}.`);
}
