/** A row as the caller brings it, and the failures of reading one. */

import { QianmoError } from '../../base/errors.js';

/**
 * Values by column name, as JSON holds them; also `bigint` for a whole number and `Date` for a
 * moment. Every column that the encoder reads must be there: null is an empty value.
 */
export type RawRow = Readonly<Record<string, unknown>>;

/** Values that the caller brings, by feature name. */
export type BroughtValues = Readonly<Record<string, unknown>>;

/** The value of a column. @throws QianmoError of kind `data` when the row lacks the column. */
export function columnOf(row: RawRow, name: string): unknown {
  // A column may have the name of something that every object inherits, such as "constructor".
  const value = Object.hasOwn(row, name) ? row[name] : undefined;
  if (value === undefined) throw missingColumn(name);
  return value;
}

function missingColumn(name: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: `the row lacks the column "${name}"`,
    expected: 'a value for every column that a feature reads; null where it is empty',
    cure: `give the row the column "${name}"`,
  });
}

export function wrongValue(
  name: string,
  expected: string,
  value: unknown,
  cure = `correct the value of "${name}"`,
): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: `the column "${name}" does not hold ${expected}`,
    expected,
    found: describe(value),
    cure,
  });
}

/** A row that `prepare` rejects too; `what` is the reason in its words. */
export function rejectedRow(what: string, cure: string): QianmoError {
  return new QianmoError({ kind: 'data', what, cure });
}

function describe(value: unknown): string {
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value)))
    return String(value);
  if (value instanceof Date) return `the date ${value.getTime()}`;
  return typeof value === 'function' ? 'a function' : JSON.stringify(value);
}
