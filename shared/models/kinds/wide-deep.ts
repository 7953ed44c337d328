/**
 * Wide & Deep (Cheng et al., DLRS 2016): linear weights, also of crossed features, beside a tower
 * over the embeddings, trained together:
 *
 *   logit = bias + linear(x, crosses(x)) + output(layers(e))
 *
 * A cross is a category feature whose expression joins two columns; named in `wideFields` it has a
 * linear weight and no part in the tower.
 */

import type { ModelDefinition } from './model-definition.js';
import { tower, towerBlocks } from './tower.js';

export const wideDeep: ModelDefinition = {
  ownOptions: ['wideFields'],
  linear: 'always',
  hasFactors: true,
  hasHiddenLayers: true,
  blocks: towerBlocks,
  variables: (options, { fieldCount, widePlaces, embeddingWidth }) =>
    tower(options, (fieldCount - widePlaces.length) * embeddingWidth),
};
