/**
 * Field-weighted factorisation machine (Pan, Xu, Ruiz, Zhao, Pan, Sun and Lu, WWW 2018): a weight for
 * each pair of fields says how much their product counts,
 *
 *   logit = bias + linear(x) + sum_{f < g} r_fg <e_f, e_g>
 *
 * The weights r are the output layer, so an adgroup may have its own.
 */

import { defineModel } from './model-definition.js';
import { FIELD_OPTIONS } from './model-options.js';
import { outputLayer } from './tower.js';

export const fwfm = defineModel({
  kind: 'fwfm',
  options: { factorisedFields: FIELD_OPTIONS.factorisedFields },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: false,
  weighsPairs: () => true,
  factorisedFieldsMin: () => 2,
  blocks: () => ['output'],
  variables: (_, { factorisedPlaces: { length } }) => [outputLayer((length * (length - 1)) / 2)],
  forward: (frame) => [...frame.linear(), frame.outputTerm(frame.innerProducts())],
});
