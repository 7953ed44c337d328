/** The meta-gradient of one outer step: what the aggregator makes and the meta-optimizer consumes. */

import type { NamedTensors } from '../../../shared/tensors/named-tensors.js';

/** Gradient, or update, of some rows of one table; every other row is untouched. */
export interface RowGradient {
  /** Ascending and unique. */
  readonly ids: Int32Array;
  /** Row-major `[ids.length, table width]`. */
  readonly values: Float32Array;
}

export interface MetaGradient {
  /** By variable name, in the order of the spec: the variables that learn. */
  readonly dense: NamedTensors;
  /** By feature name, in the order of the spec: every table that learns, with or without rows. */
  readonly rows: ReadonlyMap<string, RowGradient>;
}
