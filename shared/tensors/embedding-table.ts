/** An embedding table, and how rows are gathered from it. */

import { nativeRows } from './native-rows.js';

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
  let to = targetRow * width;
  if (to + ids.length * width > target.length)
    throw new RangeError(`${ids.length} rows do not fit behind row ${targetRow}`);
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.gather(values, width, ids, target, to);
    return;
  }
  for (const id of ids) {
    if (id < 0 || id >= rowCount) throw new RangeError(`there is no row ${id} among ${rowCount}`);
    // A view on each row would cost more than its copy.
    let from = id * width;
    for (const end = from + width; from < end; from += 1, to += 1) target[to] = values[from] ?? NaN;
  }
}
