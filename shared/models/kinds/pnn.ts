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

import type { z } from 'zod';
import type { FieldFrame } from './forward-frame.js';
import { defineModel, type ModelDefinition } from './model-definition.js';
import { FIELD_OPTIONS, type ModelOptions } from './model-options.js';
import { tower, towerBlocks } from './tower.js';

interface Products {
  readonly inner: boolean;
  readonly outer: boolean;
}

const { factorisedFields, interactions } = FIELD_OPTIONS;
const withInner = { factorisedFields, interactions };

export const ipnn = productNetwork('ipnn', withInner, { inner: true, outer: false });
export const opnn = productNetwork('opnn', { factorisedFields }, { inner: false, outer: true });
export const pnn = productNetwork('pnn', withInner, { inner: true, outer: true });

function productNetwork<Own extends z.ZodRawShape>(
  kind: string,
  options: Own,
  { inner, outer }: Products,
): ModelDefinition<Own> {
  const productCount = (
    { interactions }: ModelOptions,
    { factorisedPlaces: { length }, embeddingWidth }: FieldFrame,
  ): number => {
    const innerCount = interactions === 'by-field' ? length : (length * (length - 1)) / 2;
    return (inner ? innerCount : 0) + (outer ? embeddingWidth ** 2 : 0);
  };
  return defineModel({
    kind,
    options,
    linear: 'on-demand',
    hasFactors: true,
    hasHiddenLayers: true,
    weighsPairs: (own) => inner && own.interactions !== 'by-field',
    factorisedFieldsMin: (own) => (inner && own.interactions !== 'by-field' ? 2 : 0),
    blocks: towerBlocks,
    variables: (own, fields) =>
      tower(own, fields.fieldCount * fields.embeddingWidth + productCount(own, fields)),
    forward: (frame) => {
      const isByField = frame.options.interactions === 'by-field';
      const linear = frame.linear();
      const input = [
        ...frame.fieldPieces(),
        ...(inner ? (isByField ? frame.interactionsByField() : frame.innerProducts()) : []),
        ...(outer ? frame.outerProduct() : []),
      ];
      return [...linear, frame.outputTerm(frame.hiddenLayers(input))];
    },
  });
}
