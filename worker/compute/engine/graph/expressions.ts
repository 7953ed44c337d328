/** Builds and matches the operations that rules work on. All values are floats. */

import {
  typeOf,
  type Attribute,
  type Attributes,
  type GraphValue,
  type ValueType,
} from './graph.js';
import type { GraphBuilder, Operation } from './graph-builder.js';

const FLOAT: Attribute = { kind: 'type', value: 'float32' };
const INT: Attribute = { kind: 'type', value: 'int32' };
const T: Attributes = { T: FLOAT };

type Shape = readonly number[];

export function shapeOf(value: GraphValue): Shape {
  return typeOf(value).shape;
}

export function sameShape(one: Shape, other: Shape): boolean {
  return one.length === other.length && one.every((extent, axis) => extent === other[axis]);
}

/** The shape that two operands broadcast to; null if they do not fit. */
export function broadcastShape(one: Shape, other: Shape): Shape | null {
  const rank = Math.max(one.length, other.length);
  const shape: number[] = [];
  for (let axis = 0; axis < rank; axis += 1) {
    const a = one[axis - rank + one.length] ?? 1;
    const b = other[axis - rank + other.length] ?? 1;
    if (a !== b && a !== 1 && b !== 1) return null;
    shape.push(a === 1 ? b : a);
  }
  return shape;
}

export function withoutOnes(shape: Shape): Shape {
  return shape.filter((extent) => extent !== 1);
}

function float(shape: Shape): ValueType {
  return { shape, dtype: 'float32' };
}

function intVector(builder: GraphBuilder, values: readonly number[]): GraphValue {
  return builder.constant(Int32Array.from(values), { shape: [values.length], dtype: 'int32' });
}

/** The same values in another shape, of any type. */
export function reshape(builder: GraphBuilder, x: GraphValue, shape: Shape): GraphValue {
  const { shape: from, dtype } = typeOf(x);
  if (sameShape(from, shape)) return x;
  return builder.build({
    op: 'Reshape',
    inputs: [x, intVector(builder, shape)],
    attributes: { T: { kind: 'type', value: dtype }, Tshape: INT },
    type: { shape, dtype },
  });
}

export function broadcastTo(builder: GraphBuilder, x: GraphValue, shape: Shape): GraphValue {
  if (sameShape(shapeOf(x), shape)) return x;
  return builder.build({
    op: 'BroadcastTo',
    inputs: [x, intVector(builder, shape)],
    attributes: { ...T, Tidx: INT },
    type: float(shape),
  });
}

export function unary(builder: GraphBuilder, op: string, x: GraphValue): GraphValue {
  return builder.build({ op, inputs: [x], attributes: T, type: float(shapeOf(x)) });
}

export function negative(builder: GraphBuilder, x: GraphValue): GraphValue {
  return unary(builder, 'Neg', x);
}

/** An element-wise operation with broadcasting. */
export function binary(
  builder: GraphBuilder,
  op: string,
  one: GraphValue,
  other: GraphValue,
): GraphValue {
  const shape = broadcastShape(shapeOf(one), shapeOf(other));
  if (shape === null) throw new Error(`${op} of shapes that do not fit`);
  return builder.build({ op, inputs: [one, other], attributes: T, type: float(shape) });
}

/** The sum over `axes`, which are dropped. */
export function sum(builder: GraphBuilder, x: GraphValue, axes: readonly number[]): GraphValue {
  const shape = shapeOf(x).filter((_, axis) => !axes.includes(axis));
  if (axes.length === 0) return x;
  return builder.build({
    op: 'Sum',
    inputs: [
      x,
      intVector(
        builder,
        [...axes].sort((a, b) => a - b),
      ),
    ],
    attributes: { ...T, Tidx: INT, keep_dims: { kind: 'bool', value: false } },
    type: float(shape),
  });
}

/** A product of matrices `[.., m, k]` and `[.., k, n]`; either may be given transposed. */
export interface Product {
  readonly left: GraphValue;
  readonly right: GraphValue;
  readonly leftTransposed: boolean;
  readonly rightTransposed: boolean;
}

export function productOperation({
  left,
  right,
  leftTransposed,
  rightTransposed,
}: Product): Operation {
  const a = shapeOf(left);
  const b = shapeOf(right);
  const rows = a.at(leftTransposed ? -1 : -2) ?? 0;
  const columns = b.at(rightTransposed ? -2 : -1) ?? 0;
  const transposed = (value: boolean): Attribute => ({ kind: 'bool', value });
  if (a.length === 2 && b.length === 2)
    return {
      op: 'MatMul',
      inputs: [left, right],
      attributes: {
        ...T,
        transpose_a: transposed(leftTransposed),
        transpose_b: transposed(rightTransposed),
      },
      type: float([rows, columns]),
    };
  const batch = broadcastShape(a.slice(0, -2), b.slice(0, -2));
  if (batch === null) throw new Error('a product of batches that do not fit');
  return {
    op: 'BatchMatMulV2',
    inputs: [left, right],
    attributes: { ...T, adj_x: transposed(leftTransposed), adj_y: transposed(rightTransposed) },
    type: float([...batch, rows, columns]),
  };
}

export function product(builder: GraphBuilder, of: Product): GraphValue {
  return builder.build(productOperation(of));
}

/** The factors of a product; null for any other node. */
export function productOf(operation: {
  readonly op: string;
  readonly inputs: readonly GraphValue[];
  readonly attributes: Attributes;
}): Product | null {
  const { op, inputs, attributes } = operation;
  const [left, right] = inputs;
  if (left === undefined || right === undefined) return null;
  const flag = (name: string): boolean => attributes[name]?.value === true;
  if (op === 'MatMul')
    return {
      left,
      right,
      leftTransposed: flag('transpose_a'),
      rightTransposed: flag('transpose_b'),
    };
  if (op === 'BatchMatMulV2')
    return { left, right, leftTransposed: flag('adj_x'), rightTransposed: flag('adj_y') };
  return null;
}

/** The operands of a node of that name; null for any other. */
export function operandsOf(
  { node }: GraphValue,
  op: string,
): readonly [GraphValue, GraphValue] | null {
  const [one, other] = node.inputs;
  return node.op === op && one !== undefined && other !== undefined ? [one, other] : null;
}

export function operandOf({ node }: GraphValue, op: string): GraphValue | null {
  return node.op === op ? (node.inputs[0] ?? null) : null;
}

export function isSameValue(one: GraphValue, other: GraphValue): boolean {
  return one.node === other.node && one.output === other.output;
}

/** The axes of a `Sum` or `Tile` whose second operand is a constant. */
export function constantIntsOf(value: GraphValue | undefined): readonly number[] | null {
  const values = value?.node.constant;
  return values instanceof Int32Array ? [...values] : null;
}
