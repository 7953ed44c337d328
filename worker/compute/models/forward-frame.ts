/** The operations that a model's forward pass is written in, over the state of one pass. */

import type { ForwardFrame } from '../../../shared/models/kinds/forward-frame.js';
import { interactionsByField, linearAndFactorised, weightedInteractions } from './interactions.js';
import {
  fieldPieces,
  fieldVectors,
  hiddenLayers,
  outputTerm,
  productWith,
  withBias,
} from './layers.js';
import type { ModelFrame } from './model-frame.js';
import { innerProducts, outerProduct } from './products.js';

export function forwardFrameOf(frame: ModelFrame): ForwardFrame {
  const { engine, spec, pass } = frame;
  return {
    tf: engine.tf,
    options: spec.options,
    fields: spec,
    linear: () => linearAndFactorised(frame, { isFactorised: false }),
    linearAndPairs: () => linearAndFactorised(frame, { isFactorised: true }),
    weightedInteractions: (firstRow) => weightedInteractions(frame, firstRow),
    outputTerm: (input) => outputTerm(frame, input),
    fieldPieces: () => fieldPieces(frame),
    fieldVectors: () => fieldVectors(frame),
    interactionsByField: () => interactionsByField(frame),
    innerProducts: () => innerProducts(frame),
    outerProduct: () => outerProduct(frame),
    hiddenLayers: (input) => hiddenLayers(frame, input),
    product: (input, weights) => productWith(frame, input, weights),
    withBias: (x, bias) => withBias(frame, x, bias),
    variable: pass.variable,
    apply: pass.apply,
  };
}
