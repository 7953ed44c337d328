/**
 * The row pack: the rows of each table that leaves touch, and the place of each id in it. Coordinator and worker derive the same pack from the same tasks, so ids are never sent.
 */

import { at } from '../base/arrays.js';
import { gatherRows, type EmbeddingTable } from '../tensors/named-tensors.js';
import { nativeRows } from '../tensors/native-rows.js';
import { encodableTensor } from '../tensors/tensor-codec.js';
import type { PlannedRows } from './task-store.js';

type PlannedIds = Pick<PlannedRows, 'categoryIds' | 'bagIds'>;

export interface RowPackLayout {
  /** Ascending unique ids by table: category features, then bag features, in manifest order. */
  readonly idsByTable: readonly Int32Array[];
  /** First row of each table within the pack. */
  readonly startByTable: readonly number[];
  readonly rowCount: number;
}

export function rowPackLayoutOf(tasks: readonly PlannedIds[]): RowPackLayout {
  const [first] = tasks;
  if (first === undefined) return { idsByTable: [], startByTable: [], rowCount: 0 };
  const categoryCount = first.categoryIds.length;
  const tableCount = categoryCount + first.bagIds.length;
  const idsByTable = Array.from({ length: tableCount }, (_, table) =>
    uniqueIdsOf(
      tasks.map(({ categoryIds, bagIds }) =>
        table < categoryCount ? at(categoryIds, table) : at(bagIds, table - categoryCount),
      ),
    ),
  );
  return packLayoutOf(idsByTable);
}

/** @param idsByTable ascending and unique in each table. */
export function packLayoutOf(idsByTable: readonly Int32Array[]): RowPackLayout {
  const startByTable: number[] = [];
  let rowCount = 0;
  for (const ids of idsByTable) {
    startByTable.push(rowCount);
    rowCount += ids.length;
  }
  return { idsByTable, startByTable, rowCount };
}

/** The distinct ids from 0 on, ascending. Negative ids mark empty places. */
export function uniqueIdsOf(columns: readonly Int32Array[]): Int32Array {
  const native = nativeRows();
  if (native !== null) return native.distinct(columns);
  const idCount = columns.reduce((sum, { length }) => sum + length, 0);
  const sorted = new Int32Array(idCount);
  let start = 0;
  for (const ids of columns) {
    sorted.set(ids, start);
    start += ids.length;
  }
  sorted.sort();
  let uniqueCount = 0;
  let last = -1;
  for (const id of sorted) {
    if (id <= last) continue;
    sorted[uniqueCount] = id;
    uniqueCount += 1;
    last = id;
  }
  return sorted.slice(0, uniqueCount);
}

/**
 * The rows of the layout as the tensor `rows` `[packRowCount, tableRowWidth]`. The cost is a copy per
 * touched row, whatever the size of the tables. `tables` and the layout are in the order of the spec.
 */
export function encodeRowPack(
  tables: ReadonlyMap<string, EmbeddingTable>,
  layout: RowPackLayout,
  tableRowWidth: number,
): Uint8Array {
  const { bytes, values } = encodableTensor('rows', [layout.rowCount, tableRowWidth]);
  let tableIndex = 0;
  for (const table of tables.values()) {
    const ids = layout.idsByTable[tableIndex];
    const start = layout.startByTable[tableIndex];
    if (ids === undefined || start === undefined)
      throw new Error(`the row pack has ${layout.idsByTable.length} tables, not ${tables.size}`);
    gatherRows(table, ids, values, start);
    tableIndex += 1;
  }
  return bytes;
}
