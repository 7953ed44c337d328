/**
 * Factorisation machine (Rendle, ICDM 2010), over fields f with vectors e_f (x times a vector for a
 * number x, the mean of its members for a bag):
 *
 *   logit = bias + linear(x) + sum_{f < g} <e_f, e_g>
 *         = bias + linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2)
 */

import type { ModelDefinition } from '../model-definition.js';

export const fm: ModelDefinition = {
  ownOptions: ['factorisedFields'],
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: false,
  blocks: () => [],
  variables: () => [],
};
