/** Columns as expressions see them: values of the type that `prepare` gives the column. */

import type { QianmoError } from '../../base/errors.js';
import { timestampOfText } from '../values/calendar.js';
import {
  booleanIn,
  dayIn,
  doubleIn,
  momentIn,
  stringIn,
  wholeNumberIn,
} from '../values/column-text.js';
import { integerRangeOf, type ColumnType, type InferredType } from '../values/column-type.js';
import { textOfJsonValue, wellFormed } from '../values/json-text.js';
import { booleanOfText, doubleOfText } from '../values/number-text.js';
import { columnOf, wrongValue } from '../values/raw-row.js';
import { wholeNumberOf, type WholeNumber } from '../values/whole-number.js';
import { outside, type Bound, type Value, type ValueType } from './bound-expression.js';

/** @throws OutsideSubset where the type is not known, or not of the subset. */
export function boundColumn(name: string, column: ColumnType): Bound {
  if (column.log === 'typed') return typedColumn(name, column.type);
  const { inferred } = column;
  if (inferred === undefined)
    return outside(`the type that the logs give the column "${name}" is not known`);
  const read = READ_TEXT[inferred];
  return {
    type: inferred,
    evaluate: (row) => {
      const value = columnOf(row, name);
      return value === null ? null : read(value, name);
    },
  };
}

type ReadValue = (value: unknown, name: string) => Value;

/** The text of a value that is not null. */
function textOf(value: unknown): string {
  return textOfJsonValue(value) ?? '';
}

/** Texts in which `prepare` sees a column of whole numbers. */
const WHOLE_TEXT = /^-?(?:0|[1-9]\d{0,18})$/;

const READ_TEXT: Readonly<Record<InferredType, ReadValue>> = {
  BIGINT: readWhole,
  DOUBLE: (value) => (typeof value === 'number' ? value + 0 : doubleOfText(textOf(value))),
  BOOLEAN: (value) => (typeof value === 'boolean' ? value : booleanOfText(textOf(value))),
  TIMESTAMP: readMoment,
  VARCHAR: (value) => wellFormed(textOf(value)),
};

/** Null for a text that is no finite number, as `prepare` has it among whole numbers. */
function readWhole(value: unknown, name: string): WholeNumber | null {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value + 0;
  if (typeof value === 'number' && Number.isInteger(value)) throw roundedNumber(name, value);
  const text = textOf(value);
  const whole = WHOLE_TEXT.test(text) ? BigInt(text) : null;
  if (whole !== null && BigInt.asIntN(64, whole) === whole) return wholeNumberOf(whole);
  const number = doubleOfText(text);
  if (number === null || !Number.isFinite(number)) return null;
  throw wrongValue(name, 'a whole number of 64 bits, as the logs do', value);
}

/** A parser of JSON has lost the last digits of such a number. */
function roundedNumber(name: string, value: number): QianmoError {
  const expected = 'a number within 2^53, or a larger one as a text';
  return wrongValue(name, expected, value, `give "${name}" as a text of digits`);
}

function readMoment(value: unknown, name: string): WholeNumber | null {
  return value instanceof Date ? momentIn(value, name) : timestampOfText(textOf(value), true);
}

function typedColumn(name: string, typeName: string): Bound {
  const [type, read] =
    readerOf(typeName) ??
    outside(`the column "${name}" has the type ${typeName}, which is not of the subset`);
  return {
    type,
    evaluate: (row) => {
      const value = columnOf(row, name);
      return value === null ? null : read(value, name);
    },
  };
}

function readerOf(type: string): readonly [ValueType, ReadValue] | null {
  switch (type) {
    case 'INTEGER':
    case 'BIGINT': {
      const range = integerRangeOf(type);
      if (range === null) return null;
      return [type, (value, name) => wholeNumberIn(value, type, range, name)];
    }
    case 'BOOLEAN':
      return [type, booleanIn];
    case 'DOUBLE':
      return [type, doubleIn];
    case 'VARCHAR':
      return [type, (value, name) => wellFormed(stringIn(value, name))];
    case 'DATE':
      return [type, dayIn];
    case 'TIMESTAMP':
      return [type, momentIn];
    default:
      return null;
  }
}
