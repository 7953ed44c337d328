/** CASE, COALESCE, NULLIF, GREATEST, and tests of a value against others. */

import type { RawRow } from '../values/raw-row.js';
import {
  asText,
  binary,
  constant,
  demandComparable,
  outside,
  type Bound,
  type Value,
} from './bound-expression.js';
import { castTo, unified } from './casts.js';
import { compareValues, negation, truthOf } from './operators.js';

interface BoundBranch {
  readonly condition: Bound;
  readonly result: Bound;
}

/** Evaluates a result only where its condition holds. */
export function caseOf(branches: readonly BoundBranch[], otherwise: Bound): Bound {
  const conditions = branches.map(({ condition }) => truthOf(condition).evaluate);
  const { type, operands } = unified([...branches.map(({ result }) => result), otherwise]);
  const results = operands.map(({ evaluate }) => evaluate);
  return {
    type,
    evaluate: (row) => {
      const found = conditions.findIndex((condition) => condition(row) === true);
      const evaluate = results[found < 0 ? results.length - 1 : found];
      return evaluate === undefined ? null : evaluate(row);
    },
  };
}

/** The first value that is not null; those after it are not evaluated. */
export function coalesce(bounds: readonly Bound[]): Bound {
  const { type, operands } = unified(bounds);
  return {
    type,
    evaluate: (row) => {
      for (const { evaluate } of operands) {
        const value = evaluate(row);
        if (value !== null) return value;
      }
      return null;
    },
  };
}

/** Null where both are equal, else the first, which keeps its type. */
export function nullIf(first: Bound, second: Bound): Bound {
  demandComparable([first, second]);
  const { type, operands } = unified([first, second]);
  if (first.decimal !== undefined) return outside('NULLIF of a number with a point');
  const [left, right] = operands;
  if (left === undefined || right === undefined) return first;
  return {
    type: first.type,
    evaluate: (row) => {
      const a = left.evaluate(row);
      const b = right.evaluate(row);
      if (a !== null && b !== null && compareValues(type, a, b) === 0) return null;
      return first.evaluate(row);
    },
  };
}

/** The greatest or least value that is not null; of equal ones the first. */
export function extreme(direction: 1 | -1, bounds: readonly Bound[]): Bound {
  const { type, operands } = unified(bounds);
  return {
    type,
    evaluate: (row) => {
      let best: Value = null;
      for (const { evaluate } of operands) {
        const value = evaluate(row);
        if (value === null) continue;
        if (best === null || direction * compareValues(type, value, best) > 0) best = value;
      }
      return best;
    },
  };
}

export function isNull(operand: Bound, isNegated: boolean): Bound {
  return { type: 'BOOLEAN', evaluate: (row) => (operand.evaluate(row) === null) !== isNegated };
}

export function between(operand: Bound, bounds: readonly Bound[], isNegated: boolean): Bound {
  demandComparable([operand, ...bounds]);
  const { type, operands } = unified([operand, ...bounds]);
  const [value, low, high] = operands;
  if (value === undefined || low === undefined || high === undefined)
    return outside('BETWEEN without two bounds');
  if (type === 'NULL') return constant('BOOLEAN', null);
  const isSo = (row: RawRow): boolean | null => {
    const found = value.evaluate(row);
    const lowest = low.evaluate(row);
    const highest = high.evaluate(row);
    if (found === null) return null;
    const isAbove = lowest === null ? null : compareValues(type, found, lowest) >= 0;
    const isBelow = highest === null ? null : compareValues(type, found, highest) <= 0;
    if (isAbove === false || isBelow === false) return false;
    return isAbove === null || isBelow === null ? null : true;
  };
  return negatedIf(isNegated, { type: 'BOOLEAN', evaluate: isSo });
}

/** True where one is equal; null where none is and a value is null. */
export function isIn(operand: Bound, items: readonly Bound[], isNegated: boolean): Bound {
  demandComparable([operand, ...items]);
  const { type, operands } = unified([operand, ...items]);
  const [value, ...others] = operands;
  if (value === undefined || others.length === 0) return outside('IN without a list');
  const isSo = (row: RawRow): boolean | null => {
    const found = value.evaluate(row);
    let result: boolean | null = false;
    for (const { evaluate } of others) {
      const item = evaluate(row);
      if (found !== null && item !== null) {
        if (compareValues(type, found, item) === 0) result = true;
      } else if (result === false) result = null;
    }
    return result;
  };
  return negatedIf(isNegated, { type: 'BOOLEAN', evaluate: isSo });
}

/** `%` stands for any text, `_` for one character; there is no escape. */
export function isLike(operand: Bound, pattern: Bound, isNegated: boolean): Bound {
  if (![operand, pattern].every(({ type }) => type === 'VARCHAR' || type === 'NULL'))
    return outside('LIKE of values that are no texts');
  const pair = [castTo('VARCHAR', operand), castTo('VARCHAR', pattern)] as const;
  const written = pattern.text === undefined ? null : likePattern(pattern.text);
  const bound = binary('BOOLEAN', pair, (text, like) =>
    (written ?? likePattern(asText(like))).test(asText(text)),
  );
  return negatedIf(isNegated, bound);
}

function likePattern(pattern: string): RegExp {
  const source = pattern.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  return new RegExp(`^${source.replaceAll('%', '[^]*').replaceAll('_', '[^]')}$`, 'u');
}

function negatedIf(isNegated: boolean, bound: Bound): Bound {
  return isNegated ? negation(bound) : bound;
}
