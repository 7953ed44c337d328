/** Removes operations that only rename or repeat values: casts to the same type, reshapes, tiles. */

import { typeOf } from '../graph/graph.js';
import { uniformConstant, uniformValueOf, type Rule } from '../graph/graph-builder.js';
import {
  broadcastTo,
  constantIntsOf,
  operandOf,
  operandsOf,
  reshape,
  sameShape,
} from '../graph/expressions.js';

/** Removes identities and casts to the same type. */
export const sameValue: Rule = (_, { op, inputs: [x], type }) => {
  if (x === undefined || (op !== 'Cast' && op !== 'Identity')) return null;
  return typeOf(x).dtype === type.dtype ? x : null;
};

/** Replaces a chain of reshapes by one, or by none if the shape is the same. */
export const oneReshape: Rule = (builder, { op, inputs: [x], type: { shape } }) => {
  if (x === undefined || !['Reshape', 'ExpandDims', 'Squeeze'].includes(op)) return null;
  const inner = operandOf(x, 'Reshape');
  if (inner !== null) return reshape(builder, inner, shape);
  if (op !== 'Reshape' || sameShape(typeOf(x).shape, shape)) return reshape(builder, x, shape);
  const value = uniformValueOf(x);
  return value !== null && typeOf(x).dtype === 'float32'
    ? uniformConstant(builder, value, shape)
    : null;
};

/** Turns the repeat of axes of extent 1 into broadcasting, which most operations do themselves. */
export const tileAsBroadcast: Rule = (builder, { op, inputs: [x, repeats], type }) => {
  if (op !== 'Tile' || x === undefined || type.dtype !== 'float32') return null;
  const { shape } = typeOf(x);
  const counts = constantIntsOf(repeats);
  const repeatsOnes = counts?.every((count, axis) => count === 1 || shape[axis] === 1) ?? false;
  return repeatsOnes ? broadcastTo(builder, x, type.shape) : null;
};

export const oneBroadcast: Rule = (builder, { op, inputs: [x], type }) => {
  if (op !== 'BroadcastTo' || x === undefined || type.dtype !== 'float32') return null;
  const value = uniformValueOf(x);
  if (value !== null) return uniformConstant(builder, value, type.shape);
  const inner = operandsOf(x, 'BroadcastTo');
  return inner === null ? null : broadcastTo(builder, inner[0], type.shape);
};
