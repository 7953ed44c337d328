/** A tower over the embeddings and nothing else: logit = bias + output(layers(e)). */

import type { ModelDefinition } from './model-definition.js';
import { tower, towerBlocks } from './tower.js';

export const mlp: ModelDefinition = {
  ownOptions: [],
  linear: 'never',
  hasFactors: true,
  hasHiddenLayers: true,
  blocks: towerBlocks,
  variables: (options, { fieldCount, embeddingWidth }) =>
    tower(options, fieldCount * embeddingWidth),
};
