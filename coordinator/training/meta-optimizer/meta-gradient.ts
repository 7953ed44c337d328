/** The meta-gradient of one outer step, which `step-sum.ts` makes and the meta-optimizer applies. */

import type { NamedTensors } from '../../../shared/tensors/named-tensors.js';

/** The gradient, or update, of some rows of one table. Every other row is untouched. */
export interface RowGradient {
  /** Ascending and unique. */
  readonly ids: Int32Array;
  /** Row-major `[ids.length, table width]`. */
  readonly values: Float32Array;
}

export interface MetaGradient {
  /** The variables that learn, by name in the order of the spec. */
  readonly dense: NamedTensors;
  /** Every table that learns, with or without rows, by feature in the order of the spec. */
  readonly rows: ReadonlyMap<string, RowGradient>;
}
