/** Simplifies element-wise arithmetic: neutral elements, constants, broadcasts, signs. */

import { sizeOf, typeOf, type GraphValue } from '../graph/graph.js';
import {
  uniformConstant,
  uniformValueOf,
  type GraphBuilder,
  type Rule,
} from '../graph/graph-builder.js';
import {
  binary,
  broadcastShape,
  broadcastTo,
  negative,
  operandOf,
  operandsOf,
  product,
  productOf,
  reshape,
  sameShape,
  shapeOf,
  unary,
} from '../graph/expressions.js';

const BINARY = new Set(['Add', 'AddV2', 'Sub', 'Mul', 'RealDiv', 'Maximum', 'Minimum']);
const UNARY = new Set(['Neg', 'Relu', 'Sigmoid', 'Softplus', 'Exp', 'Log', 'Square', 'Tanh']);
/** Larger constants cost more space than the work that they save. */
const FOLDED_SIZE_MAX = 4_096;

function isSum(op: string): boolean {
  return op === 'Add' || op === 'AddV2';
}

/** Renames `AddV2`, which some kernels use, to `Add`, so that more nodes are equal. */
export const oneNameForAdd: Rule = (builder, { op, inputs: [one, other], type }) =>
  op === 'AddV2' && one !== undefined && other !== undefined && type.dtype === 'float32'
    ? binary(builder, 'Add', one, other)
    : null;

/** x + 0, x - 0, 1 x, x / 1, and 0 - x. */
export const neutralElement: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (one === undefined || other === undefined || type.dtype !== 'float32') return null;
  const alone = (x: GraphValue): GraphValue => broadcastTo(builder, x, type.shape);
  const left = uniformValueOf(one);
  const right = uniformValueOf(other);
  if (isSum(op) && left === 0) return alone(other);
  if ((isSum(op) || op === 'Sub') && right === 0) return alone(one);
  if (op === 'Sub' && left === 0) return alone(negative(builder, other));
  if (op === 'Mul' && left === 1) return alone(other);
  if ((op === 'Mul' || op === 'RealDiv') && right === 1) return alone(one);
  return null;
};

/** Computes with constants of one value, in single precision as the kernels do. */
export const uniformArithmetic: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const a = uniformValueOf(one);
  if (a === null) return null;
  if (op === 'Neg') return uniformConstant(builder, -a, type.shape);
  const b = other === undefined ? null : uniformValueOf(other);
  if (b === null) return null;
  const results: Record<string, number> = { Add: a + b, Sub: a - b, Mul: a * b, RealDiv: a / b };
  const result = results[op];
  return result === undefined ? null : uniformConstant(builder, result, type.shape);
};

/**
 * Divides instead of taking a reciprocal: kernels for reciprocals begin with an approximation whose bits
 * are those of the processor, and a division is rounded in the same way everywhere.
 */
export const exactReciprocal: Rule = (builder, { op, inputs: [x], type }) => {
  if (x === undefined || type.dtype !== 'float32') return null;
  if (op !== 'Reciprocal' && op !== 'Rsqrt') return null;
  const divisor = op === 'Rsqrt' ? unary(builder, 'Sqrt', x) : x;
  return binary(builder, 'RealDiv', uniformConstant(builder, 1, []), divisor);
};

/** Moves repeats behind operations that broadcast. */
export const lateBroadcast: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const source = (x: GraphValue): GraphValue => operandsOf(x, 'BroadcastTo')?.[0] ?? x;
  if (UNARY.has(op) && source(one) !== one)
    return broadcastTo(builder, unary(builder, op, source(one)), type.shape);
  if (!BINARY.has(op) || other === undefined) return null;
  const left = source(one);
  const right = source(other);
  if (left === one && right === other) return null;
  if (broadcastShape(shapeOf(left), shapeOf(right)) === null) return null;
  return broadcastTo(builder, binary(builder, op, left, right), type.shape);
};

/** Replaces a constant of one value by the smallest tensor that broadcasts to the same result. */
export const smallConstant: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (!BINARY.has(op) || one === undefined || other === undefined || type.dtype !== 'float32')
    return null;
  const shrunk = (x: GraphValue, beside: GraphValue): GraphValue => {
    const value = uniformValueOf(x);
    if (value === null || shapeOf(x).length === 0) return x;
    return sameShape(shapeOf(beside), type.shape) ? uniformConstant(builder, value, []) : x;
  };
  const left = shrunk(one, other);
  // One of two constants keeps the shape.
  const right = left === one ? shrunk(other, one) : other;
  if (left === one && right === other) return null;
  return binary(builder, op, left, right);
};

/** Moves minus signs outwards until a sum absorbs them. */
export const outerSign: Rule = (builder, { op, inputs: [one, other], type, attributes }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const minusOne = operandOf(one, 'Neg');
  const minusOther = other === undefined ? null : operandOf(other, 'Neg');
  if (op === 'Neg') return minusOne ?? negated(builder, one);
  if (op === 'Reshape' && minusOne !== null)
    return negative(builder, reshape(builder, minusOne, type.shape));
  if (other === undefined) return null;
  if (isSum(op) && minusOther !== null) return binary(builder, 'Sub', one, minusOther);
  if (isSum(op) && minusOne !== null) return binary(builder, 'Sub', other, minusOne);
  if (op === 'Sub' && minusOther !== null) return binary(builder, 'Add', one, minusOther);
  if (op === 'Sub' && minusOne !== null)
    return negative(builder, binary(builder, 'Add', minusOne, other));
  if (minusOne === null && minusOther === null) return null;
  const left = minusOne ?? one;
  const right = minusOther ?? other;
  const isNegative = (minusOne === null) !== (minusOther === null);
  const signed = (value: GraphValue): GraphValue => (isNegative ? negative(builder, value) : value);
  if (op === 'Mul' || op === 'RealDiv') return signed(binary(builder, op, left, right));
  if (op === 'ReluGrad' && minusOther === null)
    return negative(builder, builder.build({ op, inputs: [left, other], attributes, type }));
  const factors = productOf({ op, inputs: [left, right], attributes });
  return factors === null ? null : signed(product(builder, factors));
};

/** -(a - b) is b - a, which is free unless a - b is needed as well. */
function negated(builder: GraphBuilder, x: GraphValue): GraphValue | null {
  const difference = operandsOf(x, 'Sub');
  if (difference === null || builder.usersOf(x).length > 0) return null;
  return binary(builder, 'Sub', difference[1], difference[0]);
}

/** Moves element-wise operations before reshapes, so that adjacent reshapes cancel. */
export const lateReshape: Rule = (builder, { op, inputs: [one, other], attributes, type }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const x = operandOf(one, 'Reshape');
  if (x === null || typeOf(x).dtype !== 'float32') return null;
  // Signs move the other way, towards the sum that absorbs them.
  if (UNARY.has(op) && op !== 'Neg') return reshape(builder, unary(builder, op, x), type.shape);
  if (other === undefined || !(BINARY.has(op) || op === 'ReluGrad')) return null;
  const y = operandOf(other, 'Reshape');
  if (y === null || !sameShape(shapeOf(x), shapeOf(y)) || !sameShape(shapeOf(one), shapeOf(other)))
    return null;
  const inner = builder.build({
    op,
    inputs: [x, y],
    attributes,
    type: { shape: shapeOf(x), dtype: 'float32' },
  });
  return reshape(builder, inner, type.shape);
};

/** Applies reshapes and signs to small constants once, at rewriting. */
export const foldedConstant: Rule = (builder, { op, inputs: [one], type }) => {
  const values = one?.node.constant;
  if (!(values instanceof Float32Array) || sizeOf(type.shape) > FOLDED_SIZE_MAX) return null;
  if (op === 'Reshape') return builder.constant(values, type);
  if (op === 'Neg')
    return builder.constant(
      values.map((value) => -value),
      type,
    );
  return null;
};
