/** What of a spec has a gradient: all of it, or what a method learns beside a model that stays. */

import type { ModelSpec } from './model-spec.js';
import type { Variable } from './variable.js';

export function learnedVariables({ learns, variables }: ModelSpec): readonly Variable[] {
  return learns === 'all' ? variables : variables.filter(({ block }) => block === 'method');
}

/** Rows of a row pack that have a gradient. */
export function learnedRowCount({ learns }: ModelSpec, packRowCount: number): number {
  return learns === 'all' ? packRowCount : 0;
}
