/**
 * Factorisation machine (Rendle, ICDM 2010), over fields f with vectors e_f (x times a vector for a
 * number x, the mean of its members for a bag):
 *
 *   logit = bias + linear(x) + sum_{f < g} <e_f, e_g>
 *         = bias + linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2)
 *
 * With `interactions: by-field` the output layer weighs one number per field, as in the code
 * published with Pan et al. (SIGIR 2019):
 *
 *   x_f = <e_f, S - e_f>, S = sum_g e_g        logit = bias + linear(x) + output(x)
 */

import { defineModel } from './model-definition.js';
import { FIELD_OPTIONS } from './model-options.js';
import { outputLayer } from './tower.js';

export const fm = defineModel({
  kind: 'fm',
  options: {
    factorisedFields: FIELD_OPTIONS.factorisedFields,
    interactions: FIELD_OPTIONS.interactions,
  },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: false,
  blocks: ({ interactions }) => (interactions === 'by-field' ? ['output'] : []),
  variables: ({ interactions }, { factorisedPlaces }) =>
    interactions === 'by-field' ? [outputLayer(factorisedPlaces.length)] : [],
  forward: (frame) =>
    frame.options.interactions === 'by-field'
      ? [...frame.linear(), ...frame.weightedInteractions(0)]
      : frame.linearAndPairs(),
});
