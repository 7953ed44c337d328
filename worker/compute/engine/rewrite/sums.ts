/** Rules for sums over axes: join them, move them through linear operations, flatten sums over tasks. */

import { typeOf, type GraphValue } from '../graph.js';
import {
  type GraphBuilder,
  type Rule,
  constantIntsOf,
  operandOf,
  operandsOf,
  productOf,
  sameShape,
  shapeOf,
} from './graph-builder.js';

function withoutOnes(shape: readonly number[]): readonly number[] {
  return shape.filter((extent) => extent !== 1);
}

interface AxisSum {
  readonly x: GraphValue;
  readonly axes: readonly number[];
}

function axisSumOf({ op, inputs, type }: Parameters<Rule>[1]): AxisSum | null {
  const [x, axisList] = inputs;
  const axes = constantIntsOf(axisList);
  if (op !== 'Sum' || x === undefined || axes === null || type.dtype !== 'float32') return null;
  const rank = shapeOf(x).length;
  return { x, axes: axes.map((axis) => (axis < 0 ? axis + rank : axis)) };
}

/** Expresses `keep_dims`, and sums over extents of 1, as reshapes. */
const plainSum: Rule = (builder, operation) => {
  const found = axisSumOf(operation);
  if (found === null) return null;
  const { x, axes } = found;
  const shape = shapeOf(x);
  const real = axes.filter((axis) => shape[axis] !== 1);
  const keeps = operation.attributes.keep_dims?.value === true;
  if (!keeps && real.length === axes.length) return null;
  return builder.reshape(builder.sum(x, real), operation.type.shape);
};

/** The sum of a repeated value is a multiple of it. */
const sumOfRepeats: Rule = (builder, operation) => {
  const found = axisSumOf(operation);
  const source = found === null ? null : operandOf(found.x, 'BroadcastTo');
  if (found === null || source === null) return null;
  const { x, axes } = found;
  const wide = shapeOf(x);
  const narrow = [
    ...Array.from({ length: wide.length - shapeOf(source).length }, () => 1),
    ...shapeOf(source),
  ];
  const count = axes.reduce(
    (product, axis) => product * (narrow[axis] === 1 ? (wide[axis] ?? 1) : 1),
    1,
  );
  const total = builder.sum(builder.reshape(source, narrow), axes);
  const scaled = builder.binary('Mul', total, builder.uniformConstant(count, []));
  return builder.broadcastTo(scaled, operation.type.shape);
};

/** A sum of a sum is one sum over both. */
const oneSum: Rule = (builder, operation) => {
  const outer = axisSumOf(operation);
  const inner = outer === null ? null : innerSumOf(outer.x);
  if (outer === null || inner === null) return null;
  const kept = shapeOf(inner.x).flatMap((_, axis) => (inner.axes.includes(axis) ? [] : [axis]));
  const outerAxes = outer.axes.flatMap((axis) => {
    const source = kept[axis];
    return source === undefined ? [] : [source];
  });
  return builder.sum(inner.x, [...inner.axes, ...outerAxes]);
};

function innerSumOf(x: GraphValue): AxisSum | null {
  const operands = operandsOf(x, 'Sum');
  const axes = constantIntsOf(operands?.[1]);
  if (operands === null || axes === null || x.node.attributes.keep_dims?.value === true)
    return null;
  return { x: operands[0], axes };
}

/** Moves a reshape that only adds or drops extents of 1 behind the sum. */
const sumBeforeReshape: Rule = (builder, operation) => {
  const found = axisSumOf(operation);
  const source = found === null ? null : operandOf(found.x, 'Reshape');
  if (found === null || source === null || typeOf(source).dtype !== 'float32') return null;
  const from = shapeOf(source);
  const to = shapeOf(found.x);
  if (!sameShape(withoutOnes(from), withoutOnes(to))) return mergedAxes(builder, found, source);
  const sourceAxes = from.flatMap((extent, axis) => (extent === 1 ? [] : [axis]));
  const ordinal = (axis: number): number =>
    to.slice(0, axis).filter((extent) => extent !== 1).length;
  const axes = found.axes.flatMap((axis) => {
    const mapped = to[axis] === 1 ? undefined : sourceAxes[ordinal(axis)];
    return mapped === undefined ? [] : [mapped];
  });
  return builder.reshape(builder.sum(source, axes), operation.type.shape);
};

/** Summing `[t, n, ..]` over t and n when it is a reshaped `[t n, ..]`: the sum over its rows. */
function mergedAxes(
  builder: GraphBuilder,
  { x, axes }: AxisSum,
  source: GraphValue,
): GraphValue | null {
  const from = shapeOf(source);
  const to = shapeOf(x);
  const sorted = [...axes].sort((a, b) => a - b);
  const isLeading = sorted.every((axis, place) => axis === place);
  const rest = to.slice(axes.length);
  if (!isLeading || from.length === 0 || !sameShape(from.slice(1), rest)) return null;
  return builder.sum(source, [0]);
}

/** Moves signs out of a sum, and splits a sum of sums into its terms where that is cheaper. */
const sumOfTerms: Rule = (builder, operation) => {
  const found = axisSumOf(operation);
  if (found === null) return null;
  const { x, axes } = found;
  const minus = operandOf(x, 'Neg');
  if (minus !== null) return builder.negative(builder.sum(minus, axes));
  for (const op of ['Add', 'Sub'] as const) {
    const terms = operandsOf(x, op);
    if (terms === null || !axes.includes(0)) continue;
    const [one, other] = terms;
    if (!sameShape(shapeOf(one), shapeOf(other))) continue;
    if (!isTaskProduct(one) && !isTaskProduct(other)) continue;
    return builder.binary(op, builder.sum(one, axes), builder.sum(other, axes));
  }
  return null;
};

/** Returns whether the value is a product of one pair of matrices per task, or a sum that contains one. */
function isTaskProduct(x: GraphValue): boolean {
  const minus = operandOf(x, 'Neg');
  if (minus !== null) return isTaskProduct(minus);
  const terms = operandsOf(x, 'Add') ?? operandsOf(x, 'Sub');
  if (terms !== null) return terms.some(isTaskProduct);
  const factors = productOf(x.node);
  return factors !== null && factors.leftTransposed && shapeOf(x).length === 3;
}

/**
 * The sum over tasks of X_i' Y_i is X' Y with the rows of all tasks stacked: one large
 * product instead of one per task and a sum of `[taskCount, in, out]`.
 */
const flatTaskSum: Rule = (builder, operation) => {
  const found = axisSumOf(operation);
  if (found === null || found.axes.length !== 1 || found.axes[0] !== 0) return null;
  const factors = productOf(found.x.node);
  if (factors === null || !factors.leftTransposed || factors.rightTransposed) return null;
  const { left, right } = factors;
  const [taskCount = 0, rowCount = 0, width = 0] = shapeOf(left);
  const [otherTaskCount, otherRowCount, outWidth = 0] = shapeOf(right);
  if (shapeOf(left).length !== 3 || taskCount !== otherTaskCount || rowCount !== otherRowCount)
    return null;
  return builder.product({
    left: builder.reshape(left, [taskCount * rowCount, width]),
    right: builder.reshape(right, [taskCount * rowCount, outWidth]),
    leftTransposed: true,
    rightTransposed: false,
  });
};

export const SUM_RULES = {
  plainSum,
  sumOfRepeats,
  oneSum,
  sumBeforeReshape,
  flatTaskSum,
  sumOfTerms,
} satisfies Record<string, Rule>;
