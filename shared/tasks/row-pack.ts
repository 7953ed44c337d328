/**
 * The row pack: the rows of each table that leaves touch, and the place of each id in it. Coordinator and worker derive the same pack from the same tasks, so ids are never sent.
 */

import { int32At } from '../base/arrays.js';
import { gatherRows, type EmbeddingTable } from '../tensors/embedding-table.js';
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
      tasks.flatMap(({ categoryIds, bagIds }) => {
        const ids = categoryIds[table] ?? bagIds[table - categoryCount];
        return ids === undefined ? [] : [ids];
      }),
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

/** Beyond this many bits for each id, sorting is cheaper than scanning a set of bits. */
const BITS_PER_ID_MAX = 512;

/** The distinct ids from 0 on, ascending. Negative ids mark empty places. */
export function uniqueIdsOf(columns: readonly Int32Array[]): Int32Array {
  let idCount = 0;
  let idMax = -1;
  for (const ids of columns) {
    idCount += ids.length;
    for (let place = 0; place < ids.length; place += 1) {
      const id = int32At(ids, place);
      if (id > idMax) idMax = id;
    }
  }
  return idMax < BITS_PER_ID_MAX * idCount
    ? uniqueByBits(columns, idMax)
    : uniqueBySorting(columns, idCount);
}

/** Bounds the memory that is kept for the next call. */
const KEPT_WORD_COUNT_MAX = 2 ** 18;
/** All zeros. A call takes it and gives it back, so that none that fails leaves bits to the next one. */
let keptWords: Int32Array | null = null;

function takenWords(wordCount: number): Int32Array {
  const kept = keptWords;
  keptWords = null;
  return kept !== null && kept.length >= wordCount ? kept : new Int32Array(wordCount);
}

function uniqueByBits(columns: readonly Int32Array[], idMax: number): Int32Array {
  const wordCount = (idMax >> 5) + 1;
  const words = takenWords(wordCount);
  let uniqueCount = 0;
  for (const ids of columns)
    for (let place = 0; place < ids.length; place += 1) {
      const id = int32At(ids, place);
      if (id < 0) continue;
      const word = int32At(words, id >> 5);
      const bit = 1 << (id & 31);
      if ((word & bit) !== 0) continue;
      words[id >> 5] = word | bit;
      uniqueCount += 1;
    }
  const unique = new Int32Array(uniqueCount);
  let next = 0;
  for (let index = 0; index < wordCount; index += 1) {
    let rest = int32At(words, index);
    if (rest === 0) continue;
    words[index] = 0;
    while (rest !== 0) {
      const lowest = rest & -rest;
      unique[next] = (index << 5) + 31 - Math.clz32(lowest);
      next += 1;
      rest ^= lowest;
    }
  }
  if (words.length <= KEPT_WORD_COUNT_MAX) keptWords = words;
  return unique;
}

function uniqueBySorting(columns: readonly Int32Array[], idCount: number): Int32Array {
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
