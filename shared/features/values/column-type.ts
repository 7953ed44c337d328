/** The types that the columns of the logs can have, as the row encoder must know them. */

/** Types whose values the row encoder reads and expressions compute with. */
export type ScalarType =
  'BOOLEAN' | 'INTEGER' | 'BIGINT' | 'DOUBLE' | 'VARCHAR' | 'DATE' | 'TIMESTAMP';

/** The type that `prepare` infers, from all rows, for a text column that an expression names. */
export type InferredType = 'BIGINT' | 'DOUBLE' | 'BOOLEAN' | 'TIMESTAMP' | 'VARCHAR';

export type ColumnType =
  /** A column of a CSV, TSV or JSON Lines log; `inferred` is needed by expressions alone. */
  | { readonly log: 'text'; readonly inferred?: InferredType | undefined }
  /** A column of a Parquet log, by DuckDB's name of its type: `BIGINT`, `VARCHAR[]`. */
  | { readonly log: 'typed'; readonly type: string };

/** By column name. A column that is not listed is text of an unknown inferred type. */
export type ColumnTypes = Readonly<Record<string, ColumnType>>;

export function typeOfColumn(columns: ColumnTypes, name: string): ColumnType {
  const listed = Object.hasOwn(columns, name) ? columns[name] : undefined;
  return listed ?? { log: 'text' };
}

/** Whole-number types of logs and their bounds. */
const INTEGER_BITS: ReadonlyMap<string, { readonly bits: number; readonly isSigned: boolean }> =
  new Map([
    ['TINYINT', { bits: 8, isSigned: true }],
    ['SMALLINT', { bits: 16, isSigned: true }],
    ['INTEGER', { bits: 32, isSigned: true }],
    ['BIGINT', { bits: 64, isSigned: true }],
    ['UTINYINT', { bits: 8, isSigned: false }],
    ['USMALLINT', { bits: 16, isSigned: false }],
    ['UINTEGER', { bits: 32, isSigned: false }],
    ['UBIGINT', { bits: 64, isSigned: false }],
  ]);

export interface IntegerRange {
  readonly min: bigint;
  readonly max: bigint;
}

/** @returns null where `type` is not a whole-number type. */
export function integerRangeOf(type: string): IntegerRange | null {
  const found = INTEGER_BITS.get(type);
  if (found === undefined) return null;
  const { bits, isSigned } = found;
  const span = 1n << BigInt(isSigned ? bits - 1 : bits);
  return { min: isSigned ? -span : 0n, max: span - 1n };
}
