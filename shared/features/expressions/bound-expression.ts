/** Bound expressions: a type, and a function that evaluates a row. */

import type { ScalarType } from '../values/column-type.js';
import type { RawRow } from '../values/raw-row.js';
import type { WholeNumber } from '../values/whole-number.js';
import { OutsideSubset } from './syntax.js';

/**
 * The types of values. `NULL` is the type of a bare NULL, which fits every other; `TIMESTAMPTZ` is
 * shown in UTC. DECIMAL is not among them: see `decimal` below.
 */
export type ValueType = ScalarType | 'TIMESTAMPTZ' | 'NULL';

/**
 * BOOLEAN is a boolean, DOUBLE a number, VARCHAR a string; INTEGER and BIGINT are whole numbers;
 * DATE counts days and TIMESTAMP microseconds since 1970-01-01, as whole numbers.
 */
export type Value = boolean | WholeNumber | string | null;

export interface Bound {
  readonly type: ValueType;
  /** @throws SqlFailure where DuckDB fails on the row. */
  readonly evaluate: (row: RawRow) => Value;
  /** The value of an expression without columns. */
  readonly constant?: Value;
  /** True for a `date_trunc`; see `demandComparable`. */
  readonly isTruncated?: boolean;
  /** A number written with a point: a DECIMAL, which becomes a DOUBLE beside one. */
  readonly decimal?: string;
  /** A text written in the expression: beside a DATE or TIMESTAMP it is one. */
  readonly text?: string;
}

/** DuckDB fails on the row: an overflow, or a value that cannot be cast. The whole result is null. */
export class SqlFailure extends Error {}

const FAILURE = new SqlFailure('the expression fails on this row');

/** One error for all failures: they are many in odd data, and nobody reads where they arose. */
export function failRow(): never {
  throw FAILURE;
}

export function constant(type: ValueType, value: Value): Bound {
  return { type, evaluate: () => value, constant: value };
}

export const NULL_BOUND: Bound = constant('NULL', null);

/** Evaluates an expression without columns once. One that fails is left to fail on every row. */
export function folded(bound: Bound): Bound {
  if (bound.decimal !== undefined || bound.constant !== undefined) return bound;
  try {
    return { ...bound, ...constant(bound.type, bound.evaluate({})) };
  } catch (cause) {
    if (cause instanceof SqlFailure) return bound;
    throw cause;
  }
}

/**
 * A function of values that are not null; null where one of them is. As in DuckDB, a constant that is
 * null makes the result null even where the other operand fails.
 */
export function unary(type: ValueType, operand: Bound, apply: (value: Value) => Value): Bound {
  if (operand.constant === null) return constant(type, null);
  const { evaluate } = operand;
  return {
    type,
    evaluate: (row) => {
      const value = evaluate(row);
      return value === null ? null : apply(value);
    },
  };
}

export function binary(
  type: ValueType,
  [left, right]: readonly [Bound, Bound],
  apply: (left: Value, right: Value) => Value,
): Bound {
  if (left.constant === null || right.constant === null) return constant(type, null);
  const { evaluate: evaluateLeft } = left;
  const { evaluate: evaluateRight } = right;
  return {
    type,
    evaluate: (row) => {
      const a = evaluateLeft(row);
      const b = evaluateRight(row);
      return a === null || b === null ? null : apply(a, b);
    },
  };
}

/** A function of any number of values that are not null. */
export function ofAll(
  type: ValueType,
  operands: readonly Bound[],
  apply: (values: readonly Value[]) => Value,
): Bound {
  if (operands.some((operand) => operand.constant === null)) return constant(type, null);
  return {
    type,
    evaluate: (row) => {
      const values = operands.map(({ evaluate }) => evaluate(row));
      return values.includes(null) ? null : apply(values);
    },
  };
}

/** @throws OutsideSubset for a `date_trunc`, which DuckDB 1.5 compares wrongly with a constant. */
export function demandComparable(bounds: readonly Bound[]): void {
  if (bounds.some(({ isTruncated }) => isTruncated)) outside('a comparison of date_trunc');
}

export function isWhole(type: ValueType): boolean {
  return type === 'INTEGER' || type === 'BIGINT';
}

export function isNumeric(type: ValueType): boolean {
  return isWhole(type) || type === 'DOUBLE';
}

export function isMoment(type: ValueType): boolean {
  return type === 'DATE' || type === 'TIMESTAMP';
}

/** The values of a type, which the binder has checked. */
export function asText(value: Value): string {
  if (typeof value === 'string') return value;
  throw new Error(`${String(value)} is not a text`);
}

export function asWhole(value: Value): WholeNumber {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  throw new Error(`${String(value)} is not a whole number`);
}

export function asDouble(value: Value): number {
  if (typeof value === 'number') return value;
  throw new Error(`${String(value)} is not a double`);
}

export function outside(reason: string): never {
  throw new OutsideSubset(reason);
}
