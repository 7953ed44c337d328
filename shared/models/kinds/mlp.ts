/** A tower over the embeddings and nothing else: logit = bias + output(layers(e)). */

import { defineModel } from './model-definition.js';
import { tower, towerBlocks } from './tower.js';

export const mlp = defineModel({
  kind: 'mlp',
  options: {},
  linear: 'never',
  linearAdvice: 'mlp with linear weights is wide-deep: set kind: wide-deep',
  hasFactors: true,
  hasHiddenLayers: true,
  blocks: towerBlocks,
  variables: (options, { fieldCount, embeddingWidth }) =>
    tower(options, fieldCount * embeddingWidth),
  forward: (frame) => [frame.outputTerm(frame.hiddenLayers(frame.fieldPieces()))],
});
