/** The definition of a function of the subset. */

import type { Bound } from './bound-expression.js';

export interface FunctionOfSubset {
  readonly argCountMin: number;
  readonly argCountMax: number;
  /** @throws OutsideSubset where an argument has a type that is not of the subset. */
  readonly bind: (args: readonly Bound[]) => Bound;
}
