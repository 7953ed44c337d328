/**
 * Logistic regression: logit = bias + sum of the linear weights of a row's ids, and of its numbers
 * times theirs.
 */

import type { ModelDefinition } from './model-definition.js';

export const logistic: ModelDefinition = {
  ownOptions: [],
  linear: 'always',
  hasFactors: false,
  hasHiddenLayers: false,
  blocks: () => [],
  variables: () => [],
};
