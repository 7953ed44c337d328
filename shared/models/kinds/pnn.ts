/**
 * Product-based networks (Qu et al., ICDM 2016; TOIS 2018): products of field vectors enter the
 * first layer of the tower beside the vectors themselves,
 *
 *   logit = bias + output(layers([z ; p])),   z = (e_1, ..., e_n)
 *   ipnn:  p = (<e_f, e_g>)_{f < g}                            one number per pair of fields
 *   opnn:  p = (sum_f e_f)(sum_f e_f)^T                        pooled over pairs (ICDM 2016)
 *   pnn:   both, inner before outer                            (PNN* of the authors)
 *
 * Where hidden layers are absent the output layer takes the first one's place.
 */

import type { FieldFrame, ModelDefinition } from '../model-definition.js';
import { tower, towerBlocks } from '../tower.js';

export const ipnn = productNetwork({ inner: true, outer: false });
export const opnn = productNetwork({ inner: false, outer: true });
export const pnn = productNetwork({ inner: true, outer: true });

export interface Products {
  readonly inner: boolean;
  readonly outer: boolean;
}

function productNetwork({ inner, outer }: Products): ModelDefinition {
  const productCount = ({ factorisedPlaces: { length }, embeddingWidth }: FieldFrame): number =>
    (inner ? (length * (length - 1)) / 2 : 0) + (outer ? embeddingWidth ** 2 : 0);
  return {
    ownOptions: ['factorisedFields'],
    linear: 'on-demand',
    hasFactors: true,
    hasHiddenLayers: true,
    blocks: towerBlocks,
    variables: (options, frame) =>
      tower(options, frame.fieldCount * frame.embeddingWidth + productCount(frame)),
  };
}
