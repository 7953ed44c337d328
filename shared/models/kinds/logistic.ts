/**
 * Logistic regression: logit = bias + sum of the linear weights of a row's ids, and of its numbers
 * times theirs.
 */

import { defineModel } from './model-definition.js';

export const logistic = defineModel({
  kind: 'logistic',
  options: {},
  linear: 'always',
  linearAdvice: 'logistic is nothing but linear weights',
  hasFactors: false,
  hasHiddenLayers: false,
  blocks: () => [],
  variables: () => [],
  forward: (frame) => frame.linear(),
});
