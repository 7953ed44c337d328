/** Binds a syntax tree to the columns: checks the types and makes the functions that evaluate it. */

import { constant, folded, NULL_BOUND, outside, type Bound } from './bound-expression.js';
import { castTo, INTEGER_MAX, typeNamed } from './casts.js';
import { between, caseOf, coalesce, extreme, isIn, isLike, isNull, nullIf } from './conditions.js';
import type { FunctionOfSubset } from './function-table.js';
import { NUMBER_FUNCTIONS } from './number-functions.js';
import {
  arithmetic,
  comparison,
  conjunction,
  distinction,
  negated,
  negation,
} from './operators.js';
import type { BinaryOperator, SyntaxNode } from './syntax.js';
import { joined, TEXT_FUNCTIONS } from './text-functions.js';
import { TIME_FUNCTIONS } from './time-functions.js';
import { wholeNumberOf } from '../values/whole-number.js';

/** The bound column of a name. @throws OutsideSubset where its type is not of the subset. */
type BindColumn = (name: string) => Bound;

/** @throws OutsideSubset with the reason. */
export function bindExpression(node: SyntaxNode, column: BindColumn): Bound {
  const seen = { column: false };
  const bound = bindNode(
    node,
    (child) =>
      bindExpression(child, (name) => {
        seen.column = true;
        return column(name);
      }),
    column,
  );
  return seen.column || node.kind === 'column' ? bound : folded(bound);
}

function bindNode(node: SyntaxNode, bind: (node: SyntaxNode) => Bound, column: BindColumn): Bound {
  switch (node.kind) {
    case 'column':
      return column(node.name);
    case 'whole':
      return wholeLiteral(node.digits);
    case 'decimal':
      return { ...NULL_BOUND, decimal: node.digits };
    case 'double':
      return constant('DOUBLE', Number(node.digits));
    case 'text':
      return { ...constant('VARCHAR', node.value), text: node.value };
    case 'truth':
      return constant('BOOLEAN', node.value);
    case 'null':
      return NULL_BOUND;
    case 'unary':
      return bindUnary(node.operator, node.operand, bind);
    case 'binary':
      return bindBinary(node.operator, [bind(node.left), bind(node.right)]);
    case 'isNull':
      return isNull(withoutDecimal(bind(node.operand)), node.isNegated);
    case 'between':
      return between(bind(node.operand), node.items.map(bind), node.isNegated);
    case 'in':
      return isIn(bind(node.operand), node.items.map(bind), node.isNegated);
    case 'like':
      return isLike(bind(node.operand), node.items.map(bind)[0] ?? NULL_BOUND, node.isNegated);
    case 'case':
      return caseOf(
        node.branches.map(({ condition, result }) => ({
          condition: bind(condition),
          result: bind(result),
        })),
        bind(node.otherwise),
      );
    case 'cast': {
      // The result has a type of its own, so the rule about texts beside numbers does not apply to it.
      const { type, evaluate } = castTo(typeNamed(node.typeName), bind(node.operand), node.isTry);
      return { type, evaluate };
    }
    case 'call':
      return bindCall(node.name, node.args.map(bind));
  }
}

const BIGINT_MAX = 2n ** 63n - 1n;

function wholeLiteral(digits: string): Bound {
  const value = BigInt(digits);
  if (value > BIGINT_MAX) return outside(`the number ${digits} is beyond BIGINT`);
  return constant(value <= INTEGER_MAX ? 'INTEGER' : 'BIGINT', wholeNumberOf(value));
}

function bindUnary(
  operator: '-' | '+' | 'NOT',
  operand: SyntaxNode,
  bind: (node: SyntaxNode) => Bound,
): Bound {
  switch (operator) {
    case 'NOT':
      return negation(bind(operand));
    case '-':
      return negated(bind(operand));
    case '+':
      return outside('+ before a value');
  }
}

function bindBinary(operator: BinaryOperator, pair: readonly [Bound, Bound]): Bound {
  switch (operator) {
    case 'AND':
    case 'OR':
      return conjunction(operator, pair);
    case '||':
      return joined(...pair);
    case 'IS DISTINCT FROM':
    case 'IS NOT DISTINCT FROM':
      return distinction(operator === 'IS NOT DISTINCT FROM', pair);
    case '=':
    case '<>':
    case '<':
    case '<=':
    case '>':
    case '>=':
      return comparison(operator, pair);
    default:
      return arithmetic(operator, pair);
  }
}

function withoutDecimal(bound: Bound): Bound {
  return bound.decimal === undefined ? bound : castTo('DOUBLE', bound);
}

const CONDITIONAL_FUNCTIONS: ReadonlyMap<string, FunctionOfSubset> = new Map([
  ['coalesce', { argCountMin: 1, argCountMax: 64, bind: coalesce }],
  ['ifnull', { argCountMin: 2, argCountMax: 2, bind: coalesce }],
  ['nullif', ofTwo(nullIf)],
  ['greatest', { argCountMin: 1, argCountMax: 64, bind: (args) => extreme(1, args) }],
  ['least', { argCountMin: 1, argCountMax: 64, bind: (args) => extreme(-1, args) }],
  [
    'if',
    {
      argCountMin: 3,
      argCountMax: 3,
      bind: ([condition = NULL_BOUND, result = NULL_BOUND, otherwise = NULL_BOUND]) =>
        caseOf([{ condition, result }], otherwise),
    },
  ],
]);

function ofTwo(bind: (first: Bound, second: Bound) => Bound): FunctionOfSubset {
  return {
    argCountMin: 2,
    argCountMax: 2,
    bind: ([first = NULL_BOUND, second = NULL_BOUND]) => bind(first, second),
  };
}

const FUNCTIONS: ReadonlyMap<string, FunctionOfSubset> = new Map([
  ...CONDITIONAL_FUNCTIONS,
  ...NUMBER_FUNCTIONS,
  ...TEXT_FUNCTIONS,
  ...TIME_FUNCTIONS,
]);

/** The names of all functions, for the documentation and its test. */
export const FUNCTION_NAMES: readonly string[] = [...FUNCTIONS.keys()];

function bindCall(name: string, args: readonly Bound[]): Bound {
  const found = FUNCTIONS.get(name) ?? outside(`the function ${name} is not of the subset`);
  if (args.length < found.argCountMin || args.length > found.argCountMax)
    return outside(`${name} with ${args.length} arguments is not of the subset`);
  return found.bind(args);
}
