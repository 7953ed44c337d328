/** An embedding table, and how rows are gathered from it. */

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
  const { width, values } = table;
  for (let row = 0; row < ids.length; row += 1) {
    const start = (ids[row] ?? 0) * width;
    target.set(values.subarray(start, start + width), (targetRow + row) * width);
  }
}
