/** Gathers what a job needs of the meta-parameters into the bytes that travel. */

import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import { gatherRows, type EmbeddingTable } from '../../shared/tensors/embedding-table.js';
import { encodeTensors } from '../../shared/tensors/tensor-codec.js';

/** All dense variables; one encoding serves every job of an outer step. */
export function encodeDense(metaParameters: MetaParameters): Uint8Array {
  return encodeTensors(metaParameters.dense);
}

/**
 * The rows of the layout as tensor `rows` `[packRowCount, tableRowWidth]`. Costs a copy per touched
 * row, whatever the size of the tables. `tables` are in the order of the spec, as the layout is.
 */
export function encodeRowPack(
  tables: ReadonlyMap<string, EmbeddingTable>,
  layout: RowPackLayout,
  tableRowWidth: number,
): Uint8Array {
  const values = new Float32Array(layout.rowCount * tableRowWidth);
  let tableIndex = 0;
  for (const table of tables.values()) {
    const ids = layout.idsByTable[tableIndex];
    const start = layout.startByTable[tableIndex];
    if (ids === undefined || start === undefined)
      throw new Error(`the row pack has ${layout.idsByTable.length} tables, not ${tables.size}`);
    gatherRows(table, ids, values, start);
    tableIndex += 1;
  }
  return encodeTensors(new Map([['rows', { shape: [layout.rowCount, tableRowWidth], values }]]));
}
