/**
 * Wide & Deep (Cheng et al., DLRS 2016): linear weights, also of crossed features, beside a tower
 * over the embeddings, trained together:
 *
 *   logit = bias + linear(x, crosses(x)) + output(layers(e))
 *
 * A cross is a category feature whose expression joins two columns; named in `wideFields` it has a
 * linear weight and no part in the tower.
 */

import { defineModel } from './model-definition.js';
import { FIELD_OPTIONS } from './model-options.js';
import { tower, towerBlocks } from './tower.js';

export const wideDeep = defineModel({
  kind: 'wide-deep',
  options: { wideFields: FIELD_OPTIONS.wideFields },
  linear: 'always',
  linearAdvice: 'wide-deep without linear weights is mlp: set kind: mlp',
  hasFactors: true,
  hasHiddenLayers: true,
  blocks: towerBlocks,
  variables: (options, { fieldCount, widePlaces, embeddingWidth }) =>
    tower(options, (fieldCount - widePlaces.length) * embeddingWidth),
  forward: (frame) => [
    ...frame.linear(),
    frame.outputTerm(frame.hiddenLayers(frame.fieldPieces())),
  ],
});
