/** Arithmetic, comparison and boolean operators. */

import {
  differenceOf,
  productOf,
  quotientOf,
  remainderOf,
  sumOf,
  wholeNumberOf,
  type WholeNumber,
} from '../values/whole-number.js';
import {
  asDouble,
  asWhole,
  binary,
  constant,
  demandComparable,
  failRow,
  isNumeric,
  isWhole,
  outside,
  unary,
  type Bound,
  type Value,
  type ValueType,
} from './bound-expression.js';
import { castTo, fitting, unified } from './casts.js';
import type { ArithmeticOperator, ComparisonOperator } from './syntax.js';
import { compareTexts } from './text-order.js';

type Pair = readonly [Bound, Bound];

/** @throws OutsideSubset where an operand is not a number. */
export function arithmetic(operator: ArithmeticOperator, pair: Pair): Bound {
  const { type, operands } = unified(operator === '/' ? pair.map(toDouble) : pair);
  const [left, right] = [operands[0] ?? pair[0], operands[1] ?? pair[1]];
  if (type === 'NULL') return constant('INTEGER', null);
  if (!isNumeric(type)) return outside(`${operator} of values of the type ${type}`);
  if (type === 'DOUBLE') {
    const apply = DOUBLE_ARITHMETIC[operator];
    return binary(type, [left, right], (a, b) => apply(asDouble(a), asDouble(b)));
  }
  const apply = WHOLE_ARITHMETIC[operator];
  return binary(type, [left, right], (a, b) => {
    // The remainder by -1 fails as its quotient does: the least whole number has no opposite.
    if (operator === '%' && b === -1) fitting(type, differenceOf(0, asWhole(a)));
    const result = apply(asWhole(a), asWhole(b));
    return result === null ? null : fitting(type, result);
  });
}

function toDouble(bound: Bound): Bound {
  return isNumeric(bound.type) || bound.type === 'NULL' || bound.decimal !== undefined
    ? castTo('DOUBLE', bound)
    : bound;
}

const DOUBLE_ARITHMETIC: Readonly<
  Record<ArithmeticOperator, (a: number, b: number) => number | null>
> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  // DuckDB does not round here; division by 0 is null, unlike that of `/`.
  '//': (a, b) => (b === 0 ? null : a / b),
  '%': (a, b) => a % b,
};

/** `/` never meets whole numbers: its operands are cast to DOUBLE. */
const WHOLE_ARITHMETIC: Readonly<
  Record<ArithmeticOperator, (a: WholeNumber, b: WholeNumber) => WholeNumber | null>
> = {
  '+': sumOf,
  '-': differenceOf,
  '*': productOf,
  '/': failRow,
  '//': (a, b) => (b === 0 ? null : quotientOf(a, b)),
  '%': (a, b) => (b === 0 ? null : remainderOf(a, b)),
};

export function negated(operand: Bound): Bound {
  if (operand.decimal !== undefined) {
    const { decimal } = operand;
    return { ...operand, decimal: decimal.startsWith('-') ? decimal.slice(1) : `-${decimal}` };
  }
  const { type } = operand;
  if (type === 'NULL') return constant('BIGINT', null);
  if (type === 'DOUBLE') return unary(type, operand, (value) => -asDouble(value));
  if (!isNumeric(type)) return outside(`- of a value of the type ${type}`);
  return unary(type, operand, (value) => fitting(type, differenceOf(0, asWhole(value))));
}

/** Below 0, 0 or above 0, in the order of the type; NaN is equal to itself and above all numbers. */
export function compareValues(type: ValueType, a: Value, b: Value): number {
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b);
  if (type === 'DOUBLE' && (Number.isNaN(a) || Number.isNaN(b)))
    return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  if (a === null || b === null) throw new Error('null has no order');
  return a < b ? -1 : 1;
}

const IS_SO: Readonly<Record<ComparisonOperator, (order: number) => boolean>> = {
  '=': (order) => order === 0,
  '<>': (order) => order !== 0,
  '<': (order) => order < 0,
  '<=': (order) => order <= 0,
  '>': (order) => order > 0,
  '>=': (order) => order >= 0,
};

export function comparison(operator: ComparisonOperator, pair: Pair): Bound {
  demandComparable(pair);
  const [first, second] = pair;
  if (isWhole(first.type) && second.decimal !== undefined)
    return comparisonWithDecimal(operator, first, second.decimal);
  if (isWhole(second.type) && first.decimal !== undefined)
    return comparisonWithDecimal(MIRRORED[operator], second, first.decimal);
  const { type, operands } = unified(pair);
  if (type !== 'NULL') {
    const isSo = IS_SO[operator];
    return binary('BOOLEAN', [operands[0] ?? pair[0], operands[1] ?? pair[1]], (a, b) =>
      isSo(compareValues(type, a, b)),
    );
  }
  return constant('BOOLEAN', null);
}

const MIRRORED: Readonly<Record<ComparisonOperator, ComparisonOperator>> = {
  '=': '=',
  '<>': '<>',
  '<': '>',
  '<=': '>=',
  '>': '<',
  '>=': '<=',
};

/** Exact: a whole number is above 3.5 where it is above 3, and equal to it nowhere. */
function comparisonWithDecimal(
  operator: ComparisonOperator,
  operand: Bound,
  decimal: string,
): Bound {
  const [whole = '', fraction = ''] = decimal.split('.');
  const isBetween = /[1-9]/.test(fraction);
  const towardsZero = BigInt(/\d/.test(whole) ? whole : `${whole}0`);
  const floor = wholeNumberOf(
    isBetween && decimal.startsWith('-') ? towardsZero - 1n : towardsZero,
  );
  const isSo = IS_SO[operator];
  return unary('BOOLEAN', operand, (value) => {
    const order = compareValues(operand.type, value, floor);
    // A number between two whole ones is above its floor: equal to the floor means below it.
    return isSo(isBetween && order === 0 ? -1 : order);
  });
}

/** Equal, where null is equal to null. */
export function distinction(isNegated: boolean, pair: Pair): Bound {
  demandComparable(pair);
  const { type, operands } = unified(pair);
  const [left, right] = [operands[0] ?? pair[0], operands[1] ?? pair[1]];
  return {
    type: 'BOOLEAN',
    evaluate: (row) => {
      const a = left.evaluate(row);
      const b = right.evaluate(row);
      const isSame = a === null || b === null ? a === b : compareValues(type, a, b) === 0;
      return isSame === isNegated;
    },
  };
}

export function truthOf(bound: Bound): Bound {
  if (bound.type === 'NULL') return castTo('BOOLEAN', bound);
  if (bound.type === 'BOOLEAN') return bound;
  return outside(`a value of the type ${bound.type} as a condition: write a comparison`);
}

/** AND and OR of three-valued logic; both operands are evaluated, as DuckDB does. */
export function conjunction(operator: 'AND' | 'OR', pair: Pair): Bound {
  const [left, right] = pair.map(truthOf);
  const decisive = operator === 'OR';
  if (pair.some(({ constant: known }) => known === decisive)) return constant('BOOLEAN', decisive);
  const evaluateLeft = (left ?? pair[0]).evaluate;
  const evaluateRight = (right ?? pair[1]).evaluate;
  return {
    type: 'BOOLEAN',
    evaluate: (row) => {
      const a = evaluateLeft(row);
      const b = evaluateRight(row);
      if (a === decisive || b === decisive) return decisive;
      return a === null || b === null ? null : !decisive;
    },
  };
}

export function negation(operand: Bound): Bound {
  return unary('BOOLEAN', truthOf(operand), (value) => value !== true);
}
