/** The place of a member's matrix in that of an average. Pure. */

import { at, float32At } from '../../shared/base/arrays.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';

export interface Placement {
  /** The row of the average, by that of the member. */
  readonly rowOf: (row: number) => number;
  readonly firstColumn: number;
  /** By the row of the member. */
  readonly factorOf: (row: number) => number;
}

/** Vectors are matrices of one column. */
export function columnsOf(shape: readonly number[]): number {
  return shape[1] ?? 1;
}

/** @param columnCount that of the average. */
export function addMatrix(
  sums: Float64Array,
  columnCount: number,
  { shape, values }: DenseTensor,
  { rowOf, firstColumn, factorOf }: Placement,
): void {
  const ownColumns = columnsOf(shape);
  for (let row = 0, from = 0; from < values.length; row += 1) {
    const first = rowOf(row) * columnCount + firstColumn;
    const factor = factorOf(row);
    for (let column = 0; column < ownColumns; column += 1, from += 1)
      sums[first + column] = at(sums, first + column) + factor * float32At(values, from);
  }
}
