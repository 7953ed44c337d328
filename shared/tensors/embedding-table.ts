/** An embedding table, and how rows are gathered from it. */

import { at } from '../base/arrays.js';

export interface EmbeddingTable {
  readonly rowCount: number;
  readonly width: number;
  /** Row-major `[rowCount, width]`. */
  readonly values: Float32Array;
}

/** Copies the rows `ids` into `target` from row `targetRow` on. */
export function gatherRows(
  table: EmbeddingTable,
  ids: Int32Array,
  target: Float32Array,
  targetRow: number,
): void {
  const { width, values, rowCount } = table;
  for (let row = 0; row < ids.length; row += 1) {
    const id = at(ids, row);
    if (id < 0 || id >= rowCount) throw new RangeError(`there is no row ${id} among ${rowCount}`);
    const start = id * width;
    target.set(values.subarray(start, start + width), (targetRow + row) * width);
  }
}
