/** Copies the columns of DuckDB's result chunks into typed arrays, a run of rows at a time. */

import {
  DuckDBDoubleVector,
  DuckDBFloatVector,
  DuckDBIntegerVector,
  DuckDBListVector,
  type DuckDBVector,
} from '../logs/duckdb-session.js';
import type { CopyRows } from './row-columns.js';

/**
 * Copies rows of a column of one number each, or of lists with `width` numbers each.
 *
 * One loop for each type of vector, since a loop that sees several types reads several times slower.
 */
export function rowsOf(vector: DuckDBVector, width = 1): CopyRows {
  if (vector instanceof DuckDBIntegerVector)
    return (to, toRow, from, count) => {
      for (let n = 0; n < count; n += 1) to[toRow + n] = filled(vector.getItem(from + n));
    };
  if (vector instanceof DuckDBFloatVector)
    return (to, toRow, from, count) => {
      for (let n = 0; n < count; n += 1) to[toRow + n] = filled(vector.getItem(from + n));
    };
  if (vector instanceof DuckDBDoubleVector)
    return (to, toRow, from, count) => {
      for (let n = 0; n < count; n += 1) to[toRow + n] = filled(vector.getItem(from + n));
    };
  if (vector instanceof DuckDBListVector) return rowsOfLists(vector, width);
  throw new Error(`a column of encoded values has the type ${String(vector.type)}`);
}

function rowsOfLists(vector: DuckDBListVector, width: number): CopyRows {
  const members = rowsOf(vector.childVector);
  return (to, toRow, from, count) => {
    for (let n = 0; n < count; n += 1)
      members(to, (toRow + n) * width, vector.getEntryOffset(from + n), width);
  };
}

function filled(value: number | null): number {
  if (value === null) throw new Error('an encoded value is missing');
  return value;
}
