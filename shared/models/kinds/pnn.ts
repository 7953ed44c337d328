/**
 * Product-based networks (Qu et al., ICDM 2016; TOIS 2018): products of field vectors enter the
 * first layer of the tower beside the vectors themselves,
 *
 *   logit = bias + output(layers([z ; p])),   z = (e_1, ..., e_n)
 *   ipnn:  p = (<e_f, e_g>)_{f < g}                            one number per pair of fields
 *   opnn:  p = (sum_f e_f)(sum_f e_f)^T                        pooled over pairs (ICDM 2016)
 *   pnn:   both, inner before outer                            (PNN* of the authors)
 *
 * With `interactions: by-field` the inner products are one number per field, (<e_f, S - e_f>)_f with
 * S = sum_g e_g, as in the code published with Pan et al. (SIGIR 2019). Where hidden layers are absent
 * the output layer takes the first one's place.
 */

import type { FieldFrame, ModelDefinition } from './model-definition.js';
import type { ModelOptions } from './model-options.js';
import { tower, towerBlocks } from './tower.js';

export const ipnn = productNetwork({ inner: true, outer: false });
export const opnn = productNetwork({ inner: false, outer: true });
export const pnn = productNetwork({ inner: true, outer: true });

export interface Products {
  readonly inner: boolean;
  readonly outer: boolean;
}

function productNetwork({ inner, outer }: Products): ModelDefinition {
  const productCount = (
    { interactions }: ModelOptions,
    { factorisedPlaces: { length }, embeddingWidth }: FieldFrame,
  ): number => {
    const innerCount = interactions === 'by-field' ? length : (length * (length - 1)) / 2;
    return (inner ? innerCount : 0) + (outer ? embeddingWidth ** 2 : 0);
  };
  return {
    ownOptions: inner ? ['factorisedFields', 'interactions'] : ['factorisedFields'],
    linear: 'on-demand',
    hasFactors: true,
    hasHiddenLayers: true,
    blocks: towerBlocks,
    variables: (options, frame) =>
      tower(options, frame.fieldCount * frame.embeddingWidth + productCount(options, frame)),
  };
}
