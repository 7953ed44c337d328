/** Types and values of expressions, as functions of a row that have the results of DuckDB. */

import {
  columnOf,
  doubleOfSqlLiteral,
  doubleOfText,
  doubleText,
  readerOfTyped,
  textOfJsonValue,
  wholeNumberOf,
  wrongValue,
  type ColumnType,
  type RawRow,
  type WholeNumber,
} from './raw-values.js';

/**
 * DATE is a TIMESTAMP at midnight here, which is why neither is a result. DECIMAL is the type of a written number with a
 * point, which becomes a DOUBLE beside one. NULL is the type of a bare NULL, which fits every other.
 */
export type ValueType =
  'BOOLEAN' | 'INTEGER' | 'BIGINT' | 'DOUBLE' | 'VARCHAR' | 'TIMESTAMP' | 'DECIMAL' | 'NULL';

/** TIMESTAMP counts microseconds since 1970-01-01 in UTC, as a `number`. */
export type Value = boolean | WholeNumber | string | null;

export interface Bound {
  readonly type: ValueType;
  /** @throws SqlFailure where DuckDB fails on the row. */
  readonly evaluate: (row: RawRow) => Value;
  /** A text or a number that is written in the expression. */
  readonly written?: string;
}

/** The expression is not of the subset; the message says why. */
export class OutsideSubset extends Error {}

/** DuckDB fails on the row, so that the whole result is null. */
class SqlFailure extends Error {}

const FAILURE = new SqlFailure('the expression fails on this row');

export function failRow(): never {
  throw FAILURE;
}

export function outside(reason: string): never {
  throw new OutsideSubset(reason);
}

/** The operation of values that the binder has checked: null where one of them is. */
export function strict(
  type: ValueType,
  operands: readonly Bound[],
  apply: (...values: never[]) => Value,
): Bound {
  return {
    type,
    evaluate: (row) => {
      const values = operands.map(({ evaluate }) => evaluate(row));
      // They have the types of the operands, which are checked where they are bound.
      return values.includes(null) ? null : apply(...(values as never[]));
    },
  };
}

export function isWhole({ type }: Bound): boolean {
  return type === 'INTEGER' || type === 'BIGINT';
}

export function isNumeric(bound: Bound): boolean {
  return isWhole(bound) || bound.type === 'DOUBLE';
}

const LIMIT_BY_TYPE: Readonly<Record<string, bigint>> = { INTEGER: 2n ** 31n, BIGINT: 2n ** 63n };

/** A whole number of the type. @throws SqlFailure where it overflows. */
export function fitting(type: ValueType, value: WholeNumber): WholeNumber {
  const limit = LIMIT_BY_TYPE[type] ?? 0n;
  return value >= -limit && value < limit ? value : failRow();
}

export const WHOLE_ARITHMETIC: Readonly<Record<string, (a: bigint, b: bigint) => bigint | null>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '//': (a, b) => (b === 0n ? null : a / b),
  '%': (a, b) => (b === 0n ? null : a % b),
};

export const DOUBLE_ARITHMETIC: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
};

/** Below 0, 0 or above 0. NaN is equal to itself and above all numbers; texts have the order of their code points. */
export function compareValues(a: Exclude<Value, null>, b: Exclude<Value, null>): number {
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function compareTexts(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  for (let index = 0; index < end; index += 1) {
    const left = a.charCodeAt(index);
    const right = b.charCodeAt(index);
    if (left !== right) return rankOf(left) - rankOf(right);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all others. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

const TYPE_BY_NAME: Readonly<Record<string, ValueType>> = {
  INTEGER: 'INTEGER',
  INT: 'INTEGER',
  BIGINT: 'BIGINT',
  DOUBLE: 'DOUBLE',
  VARCHAR: 'VARCHAR',
  TEXT: 'VARCHAR',
};

/** `CAST(bound AS name)`, or `TRY_CAST`, where a failure is null. */
export function castToNamed(name: string, bound: Bound, isTry: boolean): Bound {
  const type =
    TYPE_BY_NAME[name.toUpperCase()] ?? outside(`a cast to ${name} is not of the subset`);
  const { evaluate } = castTo(type, bound);
  if (!isTry) return { type, evaluate };
  return {
    type,
    evaluate: (row) => {
      // The operand fails outside of TRY_CAST.
      const value = bound.evaluate(row);
      return orNull(() => castTo(type, { ...bound, evaluate: () => value }).evaluate(row));
    },
  };
}

/** Null where DuckDB fails. */
export function orNull(work: () => Value): Value {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof SqlFailure) return null;
    throw cause;
  }
}

export function castTo(type: ValueType, bound: Bound): Bound {
  const from = bound.type;
  if (from === type) return bound;
  if (from === 'NULL') return { type, evaluate: bound.evaluate };
  const converted = (convert: (value: never) => Value): Bound => strict(type, [bound], convert);
  if (type === 'VARCHAR' && from === 'DOUBLE') return converted(doubleText);
  if (type === 'VARCHAR' && (isWhole(bound) || from === 'BOOLEAN')) return converted(String);
  if (type === 'DOUBLE' && from === 'VARCHAR')
    return converted((text: string) => doubleOfText(text) ?? failRow());
  if (type === 'DOUBLE' && (isWhole(bound) || from === 'BOOLEAN' || from === 'DECIMAL'))
    return converted(Number);
  if (type === 'INTEGER' || type === 'BIGINT') {
    if (isWhole(bound)) return converted((value: WholeNumber) => fitting(type, value));
    if (from === 'BOOLEAN') return converted(Number);
    if (from === 'DOUBLE') return converted((value: number) => fitting(type, wholeOfDouble(value)));
  }
  return outside(`a cast of ${from} to ${type} is not of the subset`);
}

/** Halves go to the even neighbor. */
function wholeOfDouble(value: number): WholeNumber {
  if (!Number.isFinite(value)) return failRow();
  const floor = Math.floor(value);
  const rest = value - floor;
  const isUp = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  return wholeNumberOf(BigInt(isUp ? floor + 1 : floor));
}

/** Casts values to the type that holds them all. @throws OutsideSubset where there is none. */
export function unified(bounds: readonly Bound[]): { type: ValueType; operands: Bound[] } {
  const type = bounds.reduce<ValueType>(
    (common, { type: other }) => widerOf(common, other),
    'NULL',
  );
  if (type === 'DECIMAL') outside('numbers with a point alone: write 0.5::DOUBLE');
  return { type, operands: bounds.map((bound) => castTo(type, bound)) };
}

function widerOf(common: ValueType, other: ValueType): ValueType {
  if (common === other || other === 'NULL') return common;
  if (common === 'NULL') return other;
  const types = [common, other];
  if (types.includes('DOUBLE') && types.some((type) => /^(INTEGER|BIGINT|DECIMAL)$/.test(type)))
    return 'DOUBLE';
  if (types.includes('INTEGER') && types.includes('BIGINT')) return 'BIGINT';
  if (types.includes('DECIMAL')) outside('a number with a point beside none: write 0.5::DOUBLE');
  return outside(`values of the types ${common} and ${other} side by side: write a CAST`);
}

/** A number as `/` takes it. */
export function doubleOperand(bound: Bound): Bound {
  return isNumeric(bound) || bound.type === 'DECIMAL' ? castTo('DOUBLE', bound) : bound;
}

export function writtenNumber(digits: string): Bound {
  const written = { written: digits };
  if (/e/i.test(digits)) return { type: 'DOUBLE', evaluate: () => Number(digits), ...written };
  if (digits.includes('.')) {
    const value = doubleOfSqlLiteral(digits);
    return { type: 'DECIMAL', evaluate: () => value, ...written };
  }
  const value = wholeNumberOf(BigInt(digits));
  if (value >= 2n ** 63n) return outside(`the number ${digits} is beyond BIGINT`);
  return { type: value < 2 ** 31 ? 'INTEGER' : 'BIGINT', evaluate: () => value, ...written };
}

/** A column in the type that `prepare` gives it. @throws OutsideSubset where that is not of the subset. */
export function boundColumn(name: string, column: ColumnType): Bound {
  const [type, read] = readerOfColumn(name, column);
  return {
    type,
    evaluate: (row) => {
      const value = columnOf(row, name);
      return value === null ? null : read(value, name);
    },
  };
}

type ReadValue = (value: unknown, name: string) => Value;

function readerOfColumn(name: string, column: ColumnType): readonly [ValueType, ReadValue] {
  if (column.log === 'text') {
    const { inferred } = column;
    if (inferred !== undefined) return [inferred, READ_TEXT[inferred]];
    return outside(`the type that the logs give the column "${name}" is not known`);
  }
  const { type } = column;
  if (type === 'DATE' || type === 'TIMESTAMP')
    return ['TIMESTAMP', (value) => momentIn(value, name) ?? failWrongMoment(name, value)];
  const read = readerOfTyped(type);
  switch (type) {
    case 'INTEGER':
    case 'BIGINT':
    case 'BOOLEAN':
    case 'DOUBLE':
    case 'VARCHAR':
      if (read !== null) return [type, read];
  }
  return outside(`the column "${name}" has the type ${type}, which is not of the subset`);
}

const READ_TEXT = {
  BIGINT: readWhole,
  DOUBLE: (value: unknown) => doubleOfText(textOf(value)),
  BOOLEAN: (value: unknown) => {
    const text = textOf(value).toLowerCase();
    if (/^(?:true|t|yes|y|1)$/.test(text)) return true;
    return /^(?:false|f|no|n|0)$/.test(text) ? false : null;
  },
  TIMESTAMP: momentIn,
  VARCHAR: textOf,
} satisfies Record<string, ReadValue>;

/** A value that is not null, with U+FFFD for each lone surrogate, as it is written in UTF-8. */
function textOf(value: unknown): string {
  return (textOfJsonValue(value) ?? '').replace(/\p{Surrogate}/gu, '\ufffd');
}

/** Null for a text that is no finite number, as `prepare` has it among whole numbers. */
function readWhole(value: unknown, name: string): WholeNumber | null {
  // A parser of JSON has lost the last digits of a number beyond 2^53.
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value))
    throw wrongValue(name, 'a number within 2^53, or a larger one as a text', value);
  const text = textOf(value);
  const whole = /^-?(?:0|[1-9]\d{0,18})$/.test(text) ? BigInt(text) : null;
  if (whole !== null && BigInt.asIntN(64, whole) === whole) return wholeNumberOf(whole);
  const number = doubleOfText(text);
  if (number === null || !Number.isFinite(number)) return null;
  throw wrongValue(name, 'a whole number of 64 bits, as the logs do', value);
}

const MOMENT =
  /^(\d{4}-\d\d-\d\d)(?:[ T]((?:[01]\d|2[0-3]):[0-5]\d)(?::([0-5]\d(?:\.\d{1,9})?))?(Z|[+-](?:0\d|1[0-5])(?::[0-5]\d)?)?)?$/;

/**
 * A moment in UTC. Null for a text that cannot be one.
 * @throws QianmoError of kind `data` for one in a form that is not read here
 */
function momentIn(value: unknown, name: string): number | null {
  const text = value instanceof Date ? value.toISOString() : textOf(value);
  const [, day, minutes = '00:00', seconds = '00', zone = 'Z'] = MOMENT.exec(text) ?? [];
  if (day !== undefined) {
    const dayMs = Date.parse(`${day}T00:00Z`);
    if (Number.isNaN(dayMs) || new Date(dayMs).toISOString().slice(0, 10) !== day) return null;
    const offset = zone.length === 3 ? `${zone}:00` : zone;
    const ms = Date.parse(`${day}T${minutes}${offset}`);
    const micros = ms * 1000 + Math.round(Number(seconds.slice(0, 9)) * 1_000_000);
    if (Number.isSafeInteger(micros) || !seconds.includes('.')) return micros;
  } else if (!/^[\s+\-\d]|^(?:inf|epoch)/i.test(text)) return null;
  return failWrongMoment(name, value);
}

function failWrongMoment(name: string, value: unknown): never {
  throw wrongValue(
    name,
    'a timestamp such as 2026-11-01 20:15:00.5, with a fraction only from 1685 to 2254',
    value,
  );
}
