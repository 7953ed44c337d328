/** Forms that TensorFlow runs as one kernel. */

import type { Attributes, GraphValue } from '../../capture/graph.js';
import type { GraphBuilder, Rule } from '../graph-builder.js';
import { operandOf, reshape, shapeOf } from '../expressions.js';

/**
 * A bias shared by all rows of a product: TensorFlow's own optimizer runs product, bias and ReLU as
 * one kernel when the bias comes as `BiasAdd`.
 */
export const productWithBias: Rule = (builder, { op, inputs: [one, other], type }) => {
  if (op !== 'Add' || one === undefined || other === undefined) return null;
  const withBias = (x: GraphValue, bias: GraphValue): GraphValue | null => {
    const flat = operandOf(x, 'Reshape') ?? x;
    const width = shapeOf(flat)[1];
    const shape = shapeOf(bias);
    if (flat.node.op !== 'MatMul' || width === undefined || type.shape.at(-1) !== width)
      return null;
    if (shape.at(-1) !== width || shape.slice(0, -1).some((extent) => extent !== 1)) return null;
    return reshape(builder, biasAdd(builder, flat, reshape(builder, bias, [width])), type.shape);
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
