/** Functions of numbers. Those whose last bit depends on the C library are not among them. */

import { differenceOf } from '../values/whole-number.js';
import {
  asDouble,
  asWhole,
  constant,
  failRow,
  isNumeric,
  isWhole,
  outside,
  unary,
  type Bound,
} from './bound-expression.js';
import { castTo, fitting } from './casts.js';
import type { FunctionOfSubset } from './function-table.js';
import { arithmetic } from './operators.js';

function ofOne(bind: (arg: Bound) => Bound): FunctionOfSubset {
  return {
    argCountMin: 1,
    argCountMax: 1,
    bind: ([arg]) => {
      if (arg === undefined) return outside('a function without its argument');
      if (arg.type === 'NULL' && arg.decimal === undefined) return constant('DOUBLE', null);
      if (arg.decimal !== undefined) return outside('a function of a number with a point');
      if (!isNumeric(arg.type)) return outside(`a number is expected, not ${arg.type}`);
      return bind(arg);
    },
  };
}

function ofDouble(apply: (value: number) => number): FunctionOfSubset {
  return ofOne((arg) => {
    const operand = castTo('DOUBLE', arg);
    return unary('DOUBLE', operand, (value) => apply(asDouble(value)));
  });
}

/** Whole numbers stay as they are. */
function ofFraction(apply: (value: number) => number): FunctionOfSubset {
  return ofOne((arg) =>
    isWhole(arg.type) ? arg : unary('DOUBLE', arg, (value) => apply(asDouble(value))),
  );
}

/** Halves go away from zero. */
function roundHalfUp(value: number): number {
  const size = Math.abs(value);
  const floor = Math.floor(size);
  const rounded = size - floor >= 0.5 ? floor + 1 : floor;
  return value < 0 || Object.is(value, -0) ? -rounded : rounded;
}

const ROUND = ofFraction(roundHalfUp);
const CEIL = ofDouble(Math.ceil);
const ABS = ofOne((arg) => {
  const { type } = arg;
  if (type === 'DOUBLE') return unary(type, arg, (value) => Math.abs(asDouble(value)));
  return unary(type, arg, (value) =>
    fitting(type, asWhole(value) < 0 ? differenceOf(0, asWhole(value)) : asWhole(value)),
  );
});

function squareRoot(value: number): number {
  return value < 0 ? failRow() : Math.sqrt(value);
}

/** A function of two numbers that is written as an operator elsewhere. */
function asOperator(operator: '%' | '+' | '-' | '*' | '/'): FunctionOfSubset {
  return {
    argCountMin: 2,
    argCountMax: 2,
    bind: ([left, right]) =>
      left === undefined || right === undefined
        ? outside('a function without its arguments')
        : arithmetic(operator, [left, right]),
  };
}

/** Beyond this a power of ten may differ in its last bit. */
const DECIMALS_MAX = 22;

/** `round(x, n)` of a DOUBLE: scaled by a power of ten, rounded, and scaled back. */
function roundedTo(value: Bound, { constant: decimals }: Bound): Bound {
  if (value.type !== 'DOUBLE') return outside('round to decimals of other than a DOUBLE');
  if (typeof decimals !== 'number' || Math.abs(decimals) > DECIMALS_MAX)
    return outside(`round to a number of decimals that is not written, or beyond ${DECIMALS_MAX}`);
  const power = Number(`1e${Math.abs(decimals)}`);
  return unary('DOUBLE', value, (number) => {
    const x = asDouble(number);
    if (decimals < 0) {
      const rounded = roundHalfUp(x / power) * power;
      return Number.isFinite(rounded) ? rounded : 0;
    }
    const rounded = roundHalfUp(x * power) / power;
    return Number.isFinite(rounded) ? rounded : x;
  });
}

export const NUMBER_FUNCTIONS: ReadonlyMap<string, FunctionOfSubset> = new Map([
  ['floor', ofDouble(Math.floor)],
  ['ceil', CEIL],
  ['ceiling', CEIL],
  ['trunc', ofFraction(Math.trunc)],
  ['abs', ABS],
  ['sqrt', ofDouble(squareRoot)],
  ['isnan', predicate(Number.isNaN)],
  ['isfinite', predicate(Number.isFinite)],
  ['mod', asOperator('%')],
  [
    'round',
    {
      argCountMin: 1,
      argCountMax: 2,
      bind: (args) => {
        const [value, decimals] = args;
        if (value === undefined || decimals === undefined) return ROUND.bind(args);
        return roundedTo(value, decimals);
      },
    },
  ],
]);

function predicate(test: (value: number) => boolean): FunctionOfSubset {
  return ofOne((arg) =>
    arg.type === 'DOUBLE'
      ? unary('BOOLEAN', arg, (value) => test(asDouble(value)))
      : outside('a test of other than a DOUBLE'),
  );
}
