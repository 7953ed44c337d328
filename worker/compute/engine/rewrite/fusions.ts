/** Forms that TensorFlow runs with fewer or faster kernels. Tried last, since other rules do not match them. */

import type { Attributes, GraphValue } from '../graph.js';
import {
  type GraphBuilder,
  type Rule,
  constantIntsOf,
  isSameValue,
  operandOf,
  operandsOf,
  productOf,
  sameShape,
  shapeOf,
} from './graph-builder.js';

/**
 * A bias shared by all rows of a product: TensorFlow's own optimizer runs product, bias and ReLU as
 * one kernel when the bias comes as `BiasAdd`.
 */
const productWithBias: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (op !== 'Add' || one === undefined || other === undefined) return null;
  const withBias = (x: GraphValue, bias: GraphValue): GraphValue | null => {
    const flat = operandOf(x, 'Reshape') ?? x;
    const width = shapeOf(flat)[1];
    const shape = shapeOf(bias);
    // TensorFlow would fuse a transposed product as well, and has no kernel for some of those.
    const factors = flat.node.op === 'MatMul' ? productOf(flat.node) : null;
    if (factors === null || factors.leftTransposed) return null;
    // A product as a column has another width, and the bias would repeat it.
    if (width === undefined || shapeOf(x).at(-1) !== width) return null;
    if (shape.at(-1) !== width || shape.slice(0, -1).some((extent) => extent !== 1)) return null;
    return builder.reshape(biasAdd(builder, flat, builder.reshape(bias, [width])), type.shape);
  };
  return withBias(one, other) ?? withBias(other, one);
};

const BIAS_ATTRIBUTES: Attributes = {
  T: { kind: 'type', value: 'float32' },
  data_format: { kind: 'string', value: 'NHWC' },
};

function biasAdd(builder: GraphBuilder, x: GraphValue, bias: GraphValue): GraphValue {
  return builder.build({
    op: 'BiasAdd',
    inputs: [x, bias],
    attributes: BIAS_ATTRIBUTES,
    type: { shape: shapeOf(x), dtype: 'float32' },
  });
}

/**
 * Joins the step of a bias with that of its weights, as if the layer had one more input of ones: with
 * b' = b - sum_n D_n beside P - G D,
 *
 *   (P - G D) + (b - sum_n D_n) = (P + b) - (G + 1) D
 */
const biasInGram: Rule = (builder, { op, inputs: [one, other] }) => {
  if (op !== 'Add' || one === undefined || other === undefined) return null;
  return steppedTogether(builder, one, other) ?? steppedTogether(builder, other, one);
};

function steppedTogether(
  builder: GraphBuilder,
  output: GraphValue,
  bias: GraphValue,
): GraphValue | null {
  const weights = operandsOf(output, 'Sub');
  const biases = operandsOf(bias, 'Sub');
  if (weights === null || biases === null) return null;
  const factors = productOf(weights[1].node);
  if (factors === null || factors.rightTransposed) return null;
  const total = operandOf(biases[1], 'Reshape') ?? biases[1];
  const summed = operandsOf(total, 'Sum');
  const [taskCount = 0, , width = 0] = shapeOf(output);
  if (
    summed === null ||
    !isSameValue(summed[0], factors.right) ||
    constantIntsOf(summed[1])?.join() !== '1' ||
    !sameShape(shapeOf(biases[1]), [taskCount, 1, width])
  )
    return null;
  const gram = builder.binary('Add', factors.left, builder.uniformConstant(1, []));
  return builder.binary(
    'Sub',
    builder.binary('Add', weights[0], biases[0]),
    builder.product({ ...factors, left: gram }),
  );
}

/** Below this size, a sum is as fast as a product. */
const SUMMED_ROWS_MIN = 1_024;
const SUMMED_WIDTH_MIN = 64;

/** Computes the sum over the rows of a large matrix as a product with a row of ones, which is faster. */
const rowSumAsProduct: Rule = (builder, { op, inputs: [x, axes], type }) => {
  if (op !== 'Sum' || x === undefined || type.dtype !== 'float32') return null;
  const shape = shapeOf(x);
  const summed = constantIntsOf(axes) ?? [];
  const [width = 0] = type.shape;
  const rowCount = shape.slice(0, -1).reduce((count, extent) => count * extent, 1);
  const isOverRows =
    type.shape.length === 1 &&
    summed.length === shape.length - 1 &&
    [...summed].sort((a, b) => a - b).every((axis, place) => axis === place);
  if (!isOverRows || rowCount < SUMMED_ROWS_MIN || width < SUMMED_WIDTH_MIN) return null;
  const total = builder.product({
    left: builder.uniformConstant(1, [1, rowCount]),
    right: builder.reshape(x, [rowCount, width]),
    leftTransposed: false,
    rightTransposed: false,
  });
  return builder.reshape(total, [width]);
};

export const FUSIONS = {
  productWithBias,
  biasInGram,
  rowSumAsProduct,
} satisfies Record<string, Rule>;
