/** Simplifies element-wise arithmetic: neutral elements, constants, broadcasts, signs. */

import { sizeOf, typeOf, type GraphValue } from '../graph.js';
import {
  uniformValueOf,
  type GraphBuilder,
  type Rule,
  broadcastShape,
  operandOf,
  operandsOf,
  productOf,
  sameShape,
  shapeOf,
  constantIntsOf,
} from './graph-builder.js';

const BINARY = new Set(['Add', 'AddV2', 'Sub', 'Mul', 'RealDiv', 'Maximum', 'Minimum']);
const UNARY = new Set(['Neg', 'Relu', 'Sigmoid', 'Softplus', 'Exp', 'Log', 'Square', 'Tanh']);
/** Larger constants cost more space than the work that they save. */
const FOLDED_SIZE_MAX = 4_096;

function isSum(op: string): boolean {
  return op === 'Add' || op === 'AddV2';
}

/** Renames `AddV2`, which some kernels use, to `Add`, so that more nodes are equal. */
const oneNameForAdd: Rule = (builder, { op, inputs: [one, other], type }) =>
  op === 'AddV2' && one !== undefined && other !== undefined && type.dtype === 'float32'
    ? builder.binary('Add', one, other)
    : null;

/** x + 0, x - 0, 1 x, x / 1, and 0 - x. */
const neutralElement: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (one === undefined || other === undefined || type.dtype !== 'float32') return null;
  const alone = (x: GraphValue): GraphValue => builder.broadcastTo(x, type.shape);
  const left = uniformValueOf(one);
  const right = uniformValueOf(other);
  if (isSum(op) && left === 0) return alone(other);
  if ((isSum(op) || op === 'Sub') && right === 0) return alone(one);
  if (op === 'Sub' && left === 0) return alone(builder.negative(other));
  if (op === 'Mul' && left === 1) return alone(other);
  if ((op === 'Mul' || op === 'RealDiv') && right === 1) return alone(one);
  return null;
};

/** Computes with constants of one value, in single precision as the kernels do. */
const uniformArithmetic: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const a = uniformValueOf(one);
  if (a === null) return null;
  if (op === 'Neg') return builder.uniformConstant(-a, type.shape);
  const b = other === undefined ? null : uniformValueOf(other);
  if (b === null) return null;
  const results: Record<string, number> = { Add: a + b, Sub: a - b, Mul: a * b, RealDiv: a / b };
  const result = results[op];
  return result === undefined ? null : builder.uniformConstant(result, type.shape);
};

/**
 * Divides instead of taking a reciprocal: kernels for reciprocals begin with an approximation whose bits
 * are those of the processor, and a division is rounded in the same way everywhere.
 */
const exactReciprocal: Rule = (builder, { op, inputs: [x], type }) => {
  if (x === undefined || type.dtype !== 'float32') return null;
  if (op !== 'Reciprocal' && op !== 'Rsqrt') return null;
  const divisor = op === 'Rsqrt' ? builder.unary('Sqrt', x) : x;
  return builder.binary('RealDiv', builder.uniformConstant(1, []), divisor);
};

/** Moves repeats behind operations that broadcast. */
const lateBroadcast: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const source = (x: GraphValue): GraphValue => operandsOf(x, 'BroadcastTo')?.[0] ?? x;
  if (UNARY.has(op) && source(one) !== one)
    return builder.broadcastTo(builder.unary(op, source(one)), type.shape);
  if (!BINARY.has(op) || other === undefined) return null;
  const left = source(one);
  const right = source(other);
  if (left === one && right === other) return null;
  if (broadcastShape(shapeOf(left), shapeOf(right)) === null) return null;
  return builder.broadcastTo(builder.binary(op, left, right), type.shape);
};

/** Replaces a constant of one value by the smallest tensor that broadcasts to the same result. */
const smallConstant: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (!BINARY.has(op) || one === undefined || other === undefined || type.dtype !== 'float32')
    return null;
  const shrunk = (x: GraphValue, beside: GraphValue): GraphValue => {
    const value = uniformValueOf(x);
    if (value === null || shapeOf(x).length === 0) return x;
    return sameShape(shapeOf(beside), type.shape) ? builder.uniformConstant(value, []) : x;
  };
  const left = shrunk(one, other);
  // One of two constants keeps the shape.
  const right = left === one ? shrunk(other, one) : other;
  if (left === one && right === other) return null;
  return builder.binary(op, left, right);
};

/** Moves minus signs outwards until a sum absorbs them. */
const outerSign: Rule = (builder, { op, inputs: [one, other], type, attributes }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const minusOne = operandOf(one, 'Neg');
  const minusOther = other === undefined ? null : operandOf(other, 'Neg');
  if (op === 'Neg') return minusOne ?? negated(builder, one);
  if (op === 'Reshape' && minusOne !== null)
    return builder.negative(builder.reshape(minusOne, type.shape));
  if (other === undefined) return null;
  if (isSum(op) && minusOther !== null) return builder.binary('Sub', one, minusOther);
  if (isSum(op) && minusOne !== null) return builder.binary('Sub', other, minusOne);
  if (op === 'Sub' && minusOther !== null) return builder.binary('Add', one, minusOther);
  if (op === 'Sub' && minusOne !== null)
    return builder.negative(builder.binary('Add', minusOne, other));
  if (minusOne === null && minusOther === null) return null;
  const left = minusOne ?? one;
  const right = minusOther ?? other;
  const isNegative = (minusOne === null) !== (minusOther === null);
  const signed = (value: GraphValue): GraphValue => (isNegative ? builder.negative(value) : value);
  if (op === 'Mul' || op === 'RealDiv') return signed(builder.binary(op, left, right));
  if (op === 'ReluGrad' && minusOther === null)
    return builder.negative(builder.build({ op, inputs: [left, other], attributes, type }));
  const factors = productOf({ op, inputs: [left, right], attributes });
  return factors === null ? null : signed(builder.product(factors));
};

/** -(a - b) is b - a, which is free unless a - b is needed as well. */
function negated(builder: GraphBuilder, x: GraphValue): GraphValue | null {
  const difference = operandsOf(x, 'Sub');
  if (difference === null || builder.usersOf(x).length > 0) return null;
  return builder.binary('Sub', difference[1], difference[0]);
}

/** Moves element-wise operations before reshapes, so that adjacent reshapes cancel. */
const lateReshape: Rule = (builder, { op, inputs: [one, other], attributes, type }) => {
  if (one === undefined || type.dtype !== 'float32') return null;
  const x = operandOf(one, 'Reshape');
  if (x === null || typeOf(x).dtype !== 'float32') return null;
  // Signs move the other way, towards the sum that absorbs them.
  if (UNARY.has(op) && op !== 'Neg') return builder.reshape(builder.unary(op, x), type.shape);
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
  return builder.reshape(inner, type.shape);
};

/** Applies reshapes and signs to small constants once, at rewriting. */
const foldedConstant: Rule = (builder, { op, inputs: [one], type }) => {
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

/** Removes identities and casts to the same type. */
const sameValue: Rule = (_, { op, inputs: [x], type }) => {
  if (x === undefined || (op !== 'Cast' && op !== 'Identity')) return null;
  return typeOf(x).dtype === type.dtype ? x : null;
};

/** Replaces a chain of reshapes by one, or by none if the shape is the same. */
const oneReshape: Rule = (builder, { op, inputs: [x], type: { shape } }) => {
  if (x === undefined || !['Reshape', 'ExpandDims', 'Squeeze'].includes(op)) return null;
  const inner = operandOf(x, 'Reshape');
  if (inner !== null) return builder.reshape(inner, shape);
  if (op !== 'Reshape' || sameShape(typeOf(x).shape, shape)) return builder.reshape(x, shape);
  const value = uniformValueOf(x);
  return value !== null && typeOf(x).dtype === 'float32'
    ? builder.uniformConstant(value, shape)
    : null;
};

/** Turns the repeat of axes of extent 1 into broadcasting, which most operations do themselves. */
const tileAsBroadcast: Rule = (builder, { op, inputs: [x, repeats], type }) => {
  if (op !== 'Tile' || x === undefined || type.dtype !== 'float32') return null;
  const { shape } = typeOf(x);
  const counts = constantIntsOf(repeats);
  const repeatsOnes = counts?.every((count, axis) => count === 1 || shape[axis] === 1) ?? false;
  return repeatsOnes ? builder.broadcastTo(x, type.shape) : null;
};

const oneBroadcast: Rule = (builder, { op, inputs: [x], type }) => {
  if (op !== 'BroadcastTo' || x === undefined || type.dtype !== 'float32') return null;
  const value = uniformValueOf(x);
  if (value !== null) return builder.uniformConstant(value, type.shape);
  const inner = operandsOf(x, 'BroadcastTo');
  return inner === null ? null : builder.broadcastTo(inner[0], type.shape);
};

export const ELEMENTWISE_RULES = {
  sameValue,
  oneReshape,
  tileAsBroadcast,
  oneBroadcast,
  oneNameForAdd,
  uniformArithmetic,
  foldedConstant,
  neutralElement,
  exactReciprocal,
  lateBroadcast,
  smallConstant,
  outerSign,
  lateReshape,
} satisfies Record<string, Rule>;
