/**
 * DCN-V2 (Wang et al., WWW 2021): cross layers over the field vectors x_0 = (e_1, ..., e_n),
 *
 *   x_{l+1} = x_0 * (W_l x_l + b_l) + x_l        W_l of full rank, or U_l V_l'
 *
 * and a tower beside them, logit = bias + output([x_L ; layers(x_0)]), or on top of them,
 * logit = bias + output(layers(x_L)).
 */

import type { BlockVariable, ModelDefinition } from './model-definition.js';
import type { ModelOptions } from './model-options.js';
import { hiddenLayers, outputLayer, towerBlocks, weightVariable } from './tower.js';

const CROSS_LAYERS_DEFAULT = 3;

export function crossBlocks({ crossLayers = CROSS_LAYERS_DEFAULT }: ModelOptions): string[] {
  return Array.from({ length: crossLayers }, (_, index) => `cross${index}`);
}

/** Hidden layers may be none: then the cross layers alone are weighed by the output layer. */
export function isStacked({ crossTower, hiddenWidths }: ModelOptions): boolean {
  return crossTower === 'stacked' || hiddenWidths.length === 0;
}

export const dcnV2: ModelDefinition = {
  ownOptions: ['crossLayers', 'crossRank', 'crossTower'],
  linear: 'on-demand',
  hasFactors: true,
  hasHiddenLayers: true,
  blocks: (options) => [...crossBlocks(options), ...towerBlocks(options)],
  variables: (options, { fieldCount, embeddingWidth }) => {
    const inputWidth = fieldCount * embeddingWidth;
    const { variables, width } = hiddenLayers(options, inputWidth);
    return [
      ...crossBlocks(options).flatMap((block) => crossLayer(block, inputWidth, options.crossRank)),
      ...variables,
      outputLayer(isStacked(options) ? width : inputWidth + width),
    ];
  },
};

/** Row vectors: `x W` with `W` `[in, out]`, of low rank `(x compress) expand`. */
function crossLayer(block: string, width: number, rank: number | undefined): BlockVariable[] {
  const deviation = Math.sqrt(1 / width);
  const weights =
    rank === undefined
      ? [weightVariable(block, `${block}.weight`, [width, width], deviation)]
      : [
          weightVariable(block, `${block}.compress`, [width, rank], deviation),
          weightVariable(block, `${block}.expand`, [rank, width], Math.sqrt(1 / rank)),
        ];
  return [...weights, { block, name: `${block}.bias`, shape: [width], initial: { kind: 'zeros' } }];
}
