/** The text of a column's value, as `CAST(column AS VARCHAR)` gives it in `prepare`. */

import {
  dateText,
  timestampOf,
  timestampOfText,
  timestampText,
  MICROS_PER_DAY,
} from './calendar.js';
import { integerRangeOf, type ColumnType, type IntegerRange } from './column-type.js';
import { textOfJsonValue } from './json-text.js';
import { doubleText, floatText } from './number-text.js';
import { wrongValue } from './raw-row.js';
import { floorQuotientOf, wholeNumberOf, type WholeNumber } from './whole-number.js';

/** @throws QianmoError of kind `data` when the value is not of the column's type. */
export type TextOfValue = (value: unknown, columnName: string) => string | null;

/** @returns null where the type is not one that rows can be read in. */
export function textOfColumn(type: ColumnType): TextOfValue | null {
  return type.log === 'text' ? textOfJsonValue : textOfTyped(type.type);
}

export function textOfTyped(type: string): TextOfValue | null {
  const range = integerRangeOf(type);
  if (range !== null)
    return nullable((value, name) => String(wholeNumberIn(value, type, range, name)));
  switch (type) {
    case 'VARCHAR':
      return nullable(stringIn);
    case 'BOOLEAN':
      return nullable((value, name) => String(booleanIn(value, name)));
    case 'DOUBLE':
      return nullable((value, name) => doubleText(doubleIn(value, name)));
    case 'FLOAT':
      return nullable((value, name) => floatText(Math.fround(doubleIn(value, name))));
    case 'DATE':
      return nullable((value, name) => dateText(dayIn(value, name)));
    case 'TIMESTAMP':
      return nullable((value, name) => timestampText(momentIn(value, name)));
    default:
      return null;
  }
}

function nullable(text: (value: unknown, name: string) => string): TextOfValue {
  return (value, name) => (value === null ? null : text(value, name));
}

export function stringIn(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw wrongValue(name, 'a text', value);
}

export function booleanIn(value: unknown, name: string): boolean {
  if (typeof value === 'boolean') return value;
  throw wrongValue(name, 'true or false', value);
}

export function doubleIn(value: unknown, name: string): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return Number(value);
  throw wrongValue(name, 'a number', value);
}

const WHOLE_TEXT = /^-?\d{1,20}$/;

/** A whole number within the range of its type; a text of digits stands for one beyond 2^53. */
export function wholeNumberIn(
  value: unknown,
  type: string,
  { min, max }: IntegerRange,
  name: string,
): WholeNumber {
  const whole = wholeNumberOrNull(value);
  if (whole === null || whole < min || whole > max)
    throw wrongValue(name, `a whole number of the type ${type}`, value);
  return whole;
}

function wholeNumberOrNull(value: unknown): WholeNumber | null {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value)) return value + 0;
    return Number.isInteger(value) ? wholeNumberOf(BigInt(value)) : null;
  }
  if (typeof value === 'bigint') return wholeNumberOf(value);
  return typeof value === 'string' && WHOLE_TEXT.test(value) ? wholeNumberOf(BigInt(value)) : null;
}

/** Microseconds since 1970-01-01 of a `Date` or a text. */
export function momentIn(value: unknown, name: string): WholeNumber {
  if (value instanceof Date && !Number.isNaN(value.getTime())) return momentOfDate(value);
  const found = typeof value === 'string' ? timestampOfText(value, false) : null;
  if (found === null) throw wrongValue(name, 'a timestamp', value);
  return found;
}

function momentOfDate(date: Date): WholeNumber {
  const ms = date.getTime();
  const days = Math.floor(ms / 86_400_000);
  return timestampOf(days, (ms - days * 86_400_000) * 1000);
}

/** Days since 1970-01-01 of a `Date` or a text. */
export function dayIn(value: unknown, name: string): number {
  const moment = momentIn(value, name);
  return Number(floorQuotientOf(moment, MICROS_PER_DAY));
}
