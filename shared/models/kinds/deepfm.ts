/**
 * DeepFM (Guo et al., IJCAI 2017): a factorisation machine beside a tower over the same embeddings,
 *
 *   logit = bias + linear(x) + sum_{f < g} <e_f, e_g> + output(layers(e))
 *
 * With `interactions: by-field` the machine enters as one number per field, which the output layer
 * weighs beside the last hidden layer, as in the code published with Pan et al. (SIGIR 2019):
 *
 *   x_f = <e_f, S - e_f>, S = sum_g e_g        logit = bias + linear(x) + output([layers(e) ; x])
 */

import { defineModel } from './model-definition.js';
import { FIELD_OPTIONS } from './model-options.js';
import { hiddenLayers, outputLayer, towerBlocks } from './tower.js';

export const deepfm = defineModel({
  kind: 'deepfm',
  options: {
    factorisedFields: FIELD_OPTIONS.factorisedFields,
    interactions: FIELD_OPTIONS.interactions,
  },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: true,
  blocks: towerBlocks,
  variables: (options, { fieldCount, embeddingWidth, factorisedPlaces }) => {
    const { variables, width } = hiddenLayers(options, fieldCount * embeddingWidth);
    const interactionCount = options.interactions === 'by-field' ? factorisedPlaces.length : 0;
    return [...variables, outputLayer(width + interactionCount)];
  },
  forward: (frame) => {
    const isByField = frame.options.interactions === 'by-field';
    const machine = isByField ? frame.linear() : frame.linearAndPairs();
    const hidden = frame.hiddenLayers(frame.fieldPieces());
    const hiddenWidth = hidden.reduce((sum, { rowCount }) => sum + rowCount, 0);
    return [
      ...machine,
      frame.outputTerm(hidden),
      ...(isByField ? frame.weightedInteractions(hiddenWidth) : []),
    ];
  },
});
