/** Personal blocks as settings name them. */

import type { Variable } from '../../tensors/named-tensors.js';
import type { SettingMisfit } from './method.js';

/** The block a variable belongs to, as `model.personal` names it. */
export function blockOf(variableName: string): string {
  return variableName.split('.')[0] ?? variableName;
}

export function personalVariables({
  variables,
}: {
  readonly variables: readonly Variable[];
}): readonly Variable[] {
  return variables.filter(({ block }) => block === 'personal');
}

/** The variances of a task's personal parameters, `[count]`, in the order of the model's variables. */
export const VARIANCES = 'variances';

/**
 * Blocks of crowds, `[crowd, count]` each: what is added to the personal parameters of a task in rows of the crowd, and its
 * variances. They are fitted after training (`coordinator/evaluation/crowd-blocks.ts`), and 0 before.
 */
export const CROWD_MODES = 'crowd.modes';
export const CROWD_VARIANCES = 'crowd.variances';

/** @param byBlock what the setting says of each block that it names. */
export function unknownBlockMisfits(
  setting: string,
  byBlock: { readonly [block: string]: unknown },
  personal: readonly string[],
): SettingMisfit[] {
  return Object.keys(byBlock)
    .filter((block) => !personal.includes(block))
    .map((block) => ({
      path: [setting, block],
      message: `there is no such personal block; they are ${personal.join(', ')}`,
    }));
}

/** Stands in for the embedding of one category feature: where tasks adapt, each has a row of its own, of a table row's width. */
export const GENERATED_BLOCK = 'generated';
