/**
 * The rules of feature encoding, once for both encoders, the SQL of `prepare` and the row encoder of this folder: ids,
 * and the texts and numbers that values of raw rows stand for.
 *
 * Ids of a dictionary: 0 is unknown or empty; then 1, 2, ... by descending count, equal counts by
 * value in byte order. With N buckets of unseen values, a value outside of the dictionary has the id of its hash
 * bucket among N + 1, which is 1 to N, and the ids of the dictionary begin at N + 1. Hash buckets: 1 + (last eight bytes of MD5 of the UTF-8 value, read
 * little-endian) mod (buckets - 1); empty is 0. Log buckets: 1 + floor(log2(1 + |x|)), which is
 * at most 64, plus 64 for negative x.
 */

import { QianmoError, errorOf } from '../base/errors.js';
import type { StoredColumnTypes } from '../tasks/store-manifest.js';

/** The id of an empty value, and of one that the dictionary does not hold where no buckets are set aside. */
export const UNKNOWN_ID = 0;

/** The id of the most frequent value of a dictionary, and of the first hash or log bucket. */
export const FIRST_ID = 1;

/** Fills the places of a bag beyond its last member. */
export const EMPTY_PLACE_ID = -1;

export const LOG_BUCKETS_PER_SIGN = 64;

/** Rows of the table of a log-bucketed number. */
export const LOG_BUCKET_ROW_COUNT = 2 * LOG_BUCKETS_PER_SIGN + 1;

/**
 * The store holds single precision: beyond these a value would become infinite or 0 there. They are
 * texts, because they are also literals of SQL and part of messages.
 */
export const STORED_SIZE_MAX = '3.4e38';
export const STORED_SIZE_MIN = '1.2e-38';

/** Begins a text that may be a JSON array: the members of a bag in a text column. */
export const JSON_LIST_START = '[';

/**
 * Values by column name, as JSON holds them; also `bigint` for a whole number and `Date` for a moment. Every column that
 * the encoder reads must be there: null is an empty value.
 */
export type RawRow = Readonly<Record<string, unknown>>;

/** By column name. A column that is not listed is text of an unknown inferred type. */
export type ColumnTypes = Readonly<StoredColumnTypes>;
export type ColumnType = ColumnTypes[string];

/** Whole numbers of 64 bits: a `number` within 2^53, else a `bigint`, so that equal values are `===`. */
export type WholeNumber = number | bigint;

export function typeOfColumn(columns: ColumnTypes, name: string): ColumnType {
  const listed = Object.hasOwn(columns, name) ? columns[name] : undefined;
  return listed ?? { log: 'text' };
}

/** @throws QianmoError of kind `data` when the row lacks the column. */
export function columnOf(row: RawRow, name: string): unknown {
  // A column may have the name of something that every object inherits, such as "constructor".
  const value = Object.hasOwn(row, name) ? row[name] : undefined;
  if (value !== undefined) return value;
  throw errorOf('data', `the row lacks the column "${name}"`, {
    expected: 'a value for every column that a feature reads; null where it is empty',
    cure: `give the row the column "${name}"`,
  });
}

export function wrongValue(name: string, expected: string, value: unknown): QianmoError {
  const found = typeof value === 'bigint' ? String(value) : JSON.stringify(value);
  const what = `the column "${name}" does not hold ${expected}`;
  return new QianmoError({ kind: 'data', what, found, cure: `correct the value of "${name}"` });
}

/** @throws QianmoError of kind `data` when the value is not of the column's type. */
type TextOfValue = (value: unknown, columnName: string) => string | null;

/** The text that `CAST(column AS VARCHAR)` gives in `prepare`. @returns null for a type that rows are not read in. */
export function textOfColumn(type: ColumnType): TextOfValue | null {
  return type.log === 'text' ? textOfJsonValue : textOfTyped(type.type);
}

export function textOfTyped(type: string): TextOfValue | null {
  const read = readerOfTyped(type);
  if (read === null || type === 'FLOAT') return null;
  return (value, name) => {
    if (value === null) return null;
    const found = read(value, name);
    return type === 'DOUBLE' ? doubleText(Number(found)) : String(found);
  };
}

/** Reads values that are not null. */
type ReadTyped = (value: unknown, name: string) => string | boolean | WholeNumber;

export function readerOfTyped(type: string): ReadTyped | null {
  const range = RANGE_BY_TYPE.get(type);
  if (range !== undefined)
    return (value, name) => {
      const whole = wholeNumberIn(value);
      if (whole !== null && whole >= range[0] && whole <= range[1]) return whole;
      throw wrongValue(name, `a whole number of the type ${type}`, value);
    };
  switch (type) {
    case 'VARCHAR':
      return (value, name) => {
        if (typeof value === 'string') return value;
        throw wrongValue(name, 'a text', value);
      };
    case 'BOOLEAN':
      return (value, name) => {
        if (typeof value === 'boolean') return value;
        throw wrongValue(name, 'true or false', value);
      };
    case 'DOUBLE':
    case 'FLOAT':
      return (value, name) => {
        if (typeof value !== 'number' && typeof value !== 'bigint')
          throw wrongValue(name, 'a number', value);
        return type === 'FLOAT' ? Math.fround(Number(value)) : Number(value);
      };
    default:
      return null;
  }
}

const RANGE_BY_TYPE: ReadonlyMap<string, readonly [bigint, bigint]> = new Map(
  ['TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT'].flatMap((type, index) => {
    const bits = BigInt(8 << index);
    const half = 2n ** (bits - 1n);
    return [[type, [-half, half - 1n]] as const, [`U${type}`, [0n, 2n ** bits - 1n]] as const];
  }),
);

/** A text of digits stands for a number beyond 2^53. */
function wholeNumberIn(value: unknown): WholeNumber | null {
  if (typeof value === 'bigint') return wholeNumberOf(value);
  if (typeof value === 'string')
    return /^-?\d{1,20}$/.test(value) ? wholeNumberOf(BigInt(value)) : null;
  if (typeof value !== 'number' || !Number.isInteger(value)) return null;
  return wholeNumberOf(BigInt(value));
}

export function wholeNumberOf(value: bigint): WholeNumber {
  const size = Number(value);
  return Number.isSafeInteger(size) ? size : value;
}

/** The text of a JSON value in a JSON Lines log, as `json_extract_string` gives it; null for null. */
export function textOfJsonValue(value: unknown): string | null {
  if (value === null || typeof value === 'string') return value;
  if (typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (typeof value === 'number')
    return Number.isFinite(value) ? String(value).replace('+', '') : doubleText(value);
  return value instanceof Date ? value.toISOString() : JSON.stringify(value);
}

/** The exponents of ten between which DuckDB writes a number without an exponent. */
const PLAIN_EXPONENT_MIN = -4;
const PLAIN_EXPONENT_MAX = 15;

/** A DOUBLE as VARCHAR: the shortest digits that read back to it. The sign of NaN is not known. */
export function doubleText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  if (!Number.isFinite(value)) return `${sign}inf`;
  const [mantissa = '', exponentText = ''] = Math.abs(value).toExponential().split('e');
  const digits = mantissa.replace('.', '');
  const exponent = Number(exponentText);
  if (exponent < PLAIN_EXPONENT_MIN || exponent > PLAIN_EXPONENT_MAX) {
    const size = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${mantissa}e${exponent < 0 ? '-' : '+'}${size}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`;
}

const DIGITS = String.raw`\d+(?:_\d+)*`;
const DOUBLE_TEXT = new RegExp(
  String.raw`^[\t-\r ]*\+?(-?(?:${DIGITS}(?:\.(?:${DIGITS})?)?|\.${DIGITS})(?:[eE][+-]?${DIGITS})?)[\t-\r ]*$`,
);
const NON_FINITE_TEXT = /^[\t-\r ]*\+?(-?)(nan(?:\([A-Za-z0-9_]*\))?|inf(?:inity)?)[\t-\r ]*$/i;

/** `TRY_CAST(text AS DOUBLE)`: null where the text is not a number. */
export function doubleOfText(text: string): number | null {
  const number = DOUBLE_TEXT.exec(text)?.[1];
  if (number !== undefined) return Number(number.replaceAll('_', ''));
  const [, sign, name = ''] = NON_FINITE_TEXT.exec(text) ?? [];
  if (name === '') return null;
  if (/^n/i.test(name)) return NaN;
  return sign === '-' ? -Infinity : Infinity;
}

const DECIMAL_DIGITS_MAX = 38;
const EXACT_INTEGER_MAX = 2n ** 53n;

/**
 * The DOUBLE that DuckDB makes of a number written in SQL. Digits with a point and no exponent are
 * a DECIMAL there, and casting that rounds twice: the result may differ from the nearest double.
 */
export function doubleOfSqlLiteral(literal: string): number {
  const parts = /^(-?)(\d*)\.(\d*)$/.exec(literal);
  if (parts === null) return Number(literal);
  const [, sign = '', whole = '', fraction = ''] = parts;
  const digits = `${whole.replace(/^0+/, '')}${fraction}`;
  if (digits.length > DECIMAL_DIGITS_MAX) return Number(literal);
  const size = doubleOfDecimal(BigInt(`0${digits}`), fraction.length);
  return sign === '-' ? -size : size;
}

/** `unscaled / 10^scale` as DuckDB casts a DECIMAL of 0 or more to DOUBLE. */
function doubleOfDecimal(unscaled: bigint, scale: number): number {
  const divisor = Number(`1e${scale}`);
  if (unscaled <= EXACT_INTEGER_MAX || scale === 0) return Number(unscaled) / divisor;
  const power = 10n ** BigInt(scale);
  return Number(unscaled / power) + Number(unscaled % power) / divisor;
}
