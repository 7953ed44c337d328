/** Casts between the types of the subset, and the common type of several values. */

import { dateText, timestampOfText, timestampText, MICROS_PER_DAY } from '../values/calendar.js';
import {
  booleanOfText,
  doubleOfSqlLiteral,
  doubleOfText,
  doubleText,
} from '../values/number-text.js';
import {
  floorQuotientOf,
  productOf,
  wholeNumberOf,
  type WholeNumber,
} from '../values/whole-number.js';
import {
  asDouble,
  asText,
  asWhole,
  constant,
  failRow,
  isMoment,
  isNumeric,
  isWhole,
  outside,
  SqlFailure,
  unary,
  type Bound,
  type Value,
  type ValueType,
} from './bound-expression.js';
import { wholeNumberOfText } from './whole-number-text.js';

export const INTEGER_MAX = 2 ** 31 - 1;
const BIGINT_END = 2 ** 63;
const BIGINT_MAX = 2n ** 63n - 1n;

const TYPE_BY_NAME: ReadonlyMap<string, ValueType> = new Map([
  ...['BOOLEAN', 'BOOL', 'LOGICAL'].map((name) => [name, 'BOOLEAN'] as const),
  ...['INTEGER', 'INT', 'INT4', 'SIGNED'].map((name) => [name, 'INTEGER'] as const),
  ...['BIGINT', 'INT8', 'LONG'].map((name) => [name, 'BIGINT'] as const),
  ...['DOUBLE', 'FLOAT8'].map((name) => [name, 'DOUBLE'] as const),
  ...['VARCHAR', 'TEXT', 'STRING', 'CHAR', 'BPCHAR'].map((name) => [name, 'VARCHAR'] as const),
  ['DATE', 'DATE'],
  ...['TIMESTAMP', 'DATETIME'].map((name) => [name, 'TIMESTAMP'] as const),
]);

export function typeNamed(name: string): ValueType {
  return TYPE_BY_NAME.get(name) ?? outside(`the type ${name} is not of the subset`);
}

/** A whole number that fits its type. @throws SqlFailure where it overflows. */
export function fitting(type: ValueType, value: WholeNumber): WholeNumber {
  if (typeof value === 'number') {
    if (type === 'BIGINT' || (value <= INTEGER_MAX && value >= -INTEGER_MAX - 1)) return value;
    return failRow();
  }
  return type === 'BIGINT' && value <= BIGINT_MAX && value >= -BIGINT_MAX - 1n ? value : failRow();
}

/** `CAST(bound AS type)`, or `TRY_CAST` where a failure is null. */
export function castTo(type: ValueType, bound: Bound, isTry = false): Bound {
  if (bound.decimal !== undefined)
    return type === 'DOUBLE'
      ? constant('DOUBLE', doubleOfSqlLiteral(bound.decimal))
      : outside('a number with a point that is not beside a DOUBLE: write it as 0.5::DOUBLE');
  if (bound.type === type) return bound;
  if (bound.type === 'NULL') return constant(type, null);
  const convert = conversion(bound.type, type);
  return unary(type, bound, isTry ? orNull(convert) : convert);
}

function orNull(convert: (value: Value) => Value): (value: Value) => Value {
  return (value) => {
    try {
      return convert(value);
    } catch (cause) {
      if (cause instanceof SqlFailure) return null;
      throw cause;
    }
  };
}

function conversion(from: ValueType, to: ValueType): (value: Value) => Value {
  if (to === 'VARCHAR') return (value) => textOfValue(from, value);
  if (from === 'VARCHAR') return fromText(to);
  if (isWhole(to)) {
    if (isWhole(from)) return (value) => fitting(to, asWhole(value));
    if (from === 'DOUBLE') return (value) => roundedTo(to, asDouble(value));
    if (from === 'BOOLEAN') return (value) => (value === true ? 1 : 0);
  }
  if (to === 'DOUBLE') {
    if (isWhole(from)) return (value) => Number(asWhole(value));
    if (from === 'BOOLEAN') return (value) => (value === true ? 1 : 0);
  }
  // NaN is true: it is not 0.
  if (to === 'BOOLEAN' && isNumeric(from)) return (value) => value !== 0;
  if (to === 'TIMESTAMP' && from === 'DATE')
    return (value) => productOf(asWhole(value), MICROS_PER_DAY);
  if (to === 'DATE' && from === 'TIMESTAMP')
    return (value) => floorQuotientOf(asWhole(value), MICROS_PER_DAY);
  return outside(`a cast of ${from} to ${to} is not of the subset`);
}

export function textOfValue(type: ValueType, value: Value): string {
  switch (type) {
    case 'DOUBLE':
      return doubleText(asDouble(value));
    case 'DATE':
      return dateText(Number(asWhole(value)));
    case 'TIMESTAMP':
      return timestampText(asWhole(value));
    case 'TIMESTAMPTZ':
      return `${timestampText(asWhole(value))}+00`;
    default:
      return String(value);
  }
}

const DATE_TEXT = /^\d{4}-\d\d-\d\d$/;

function fromText(to: ValueType): (value: Value) => Value {
  switch (to) {
    case 'BOOLEAN':
      return (value) => booleanOfText(asText(value)) ?? failRow();
    case 'DOUBLE':
      return (value) => doubleOfText(asText(value)) ?? failRow();
    case 'INTEGER':
    case 'BIGINT':
      return (value) => fitting(to, wholeNumberOfText(asText(value)) ?? failRow());
    case 'TIMESTAMP':
      return (value) => timestampOfText(asText(value), false) ?? failRow();
    case 'DATE':
      return (value) => {
        const text = asText(value);
        const moment = timestampOfText(DATE_TEXT.test(text) ? text : `${text} `, false);
        return moment === null ? failRow() : floorQuotientOf(moment, MICROS_PER_DAY);
      };
    default:
      return outside(`a cast of VARCHAR to ${to} is not of the subset`);
  }
}

/** Halves go to the even neighbour. */
function roundedTo(to: ValueType, value: number): WholeNumber {
  const rounded = roundedToEven(value);
  if (!Number.isFinite(rounded) || rounded < -BIGINT_END || rounded >= BIGINT_END) return failRow();
  return fitting(to, Number.isSafeInteger(rounded) ? rounded + 0 : wholeNumberOf(BigInt(rounded)));
}

function roundedToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Casts several values to the type that holds them all, as a CASE or a comparison does.
 * @throws OutsideSubset where there is none of the subset.
 */
export function unified(bounds: readonly Bound[]): { type: ValueType; operands: Bound[] } {
  const type = bounds.reduce<ValueType>((common, bound) => widerOf(common, bound), 'NULL');
  if (bounds.some(({ decimal }) => decimal !== undefined) && type !== 'DOUBLE')
    outside('a number with a point that is not beside a DOUBLE: write it as 0.5::DOUBLE');
  if (
    isMoment(type) &&
    bounds.some((bound) => bound.type === 'VARCHAR' && bound.text === undefined)
  )
    outside(`a text beside a value of the type ${type}: write a CAST`);
  // A text written in the expression takes the type of what it stands beside.
  if (type !== 'VARCHAR' && !isMoment(type) && bounds.some(({ text }) => text !== undefined))
    outside(`a text beside a value of the type ${type}: write a CAST`);
  return { type, operands: bounds.map((bound) => castTo(type, bound)) };
}

function widerOf(common: ValueType, bound: Bound): ValueType {
  const { type, decimal, text } = bound;
  if (type === common || type === 'NULL' || decimal !== undefined) return common;
  if (common === 'NULL') return type;
  if (text !== undefined && isMoment(common)) return common;
  if (common === 'VARCHAR' && isMoment(type)) return type;
  if (isNumeric(common) && isNumeric(type))
    return common === 'DOUBLE' || type === 'DOUBLE' ? 'DOUBLE' : 'BIGINT';
  if (isMoment(common) && isMoment(type)) return 'TIMESTAMP';
  return outside(`values of the types ${common} and ${type} side by side: write a CAST`);
}
