/**
 * DCN-V2 (Wang et al., WWW 2021): cross layers over the field vectors x_0 = (e_1, ..., e_n),
 *
 *   x_{l+1} = x_0 * (W_l x_l + b_l) + x_l        W_l of full rank, or U_l V_l'
 *
 * and a tower beside them, logit = bias + output([x_L ; layers(x_0)]), or on top of them,
 * logit = bias + output(layers(x_L)).
 */

import { z } from 'zod';
import type { ForwardFrame, Piece } from './forward-frame.js';
import { defineModel, type BlockVariable, type OptionsOf } from './model-definition.js';
import { hiddenLayers, outputLayer, towerBlocks, weightVariable } from './tower.js';

const CROSS_LAYERS_DEFAULT = 3;

const crossOptions = {
  crossLayers: z
    .int()
    .positive()
    .max(16)
    .optional()
    .describe('dcn-v2: number of cross layers (3 by default).'),
  crossRank: z
    .int()
    .positive()
    .max(16384)
    .optional()
    .describe('dcn-v2: rank of the weights of a cross layer; full if absent.'),
  crossTower: z
    .enum(['parallel', 'stacked'])
    .optional()
    .describe('dcn-v2: hidden layers beside the cross layers (default) or on top of them.'),
};

type CrossOptions = OptionsOf<typeof crossOptions>;

export const dcnV2 = defineModel({
  kind: 'dcn-v2',
  options: crossOptions,
  linear: 'on-demand',
  hasFactors: true,
  hasHiddenLayers: true,
  misfitsOf: ({ crossTower, hiddenWidths }) =>
    crossTower !== undefined && hiddenWidths.length === 0
      ? [
          {
            path: ['crossTower'],
            message: 'without hidden layers there is no tower: leave crossTower out',
          },
        ]
      : [],
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
  forward: (frame) => {
    const linear = frame.linear();
    const crossed = crossLayers(frame, frame.fieldVectors());
    if (isStacked(frame.options))
      return [...linear, frame.outputTerm(frame.hiddenLayers([crossed]))];
    return [...linear, frame.outputTerm([crossed, ...frame.hiddenLayers(frame.fieldPieces())])];
  },
});

function crossBlocks({ crossLayers = CROSS_LAYERS_DEFAULT }: CrossOptions): string[] {
  return Array.from({ length: crossLayers }, (_, index) => `cross${index}`);
}

/** Hidden layers may be absent: then the output layer reads the cross layers alone. */
function isStacked({ crossTower, hiddenWidths }: CrossOptions): boolean {
  return crossTower === 'stacked' || hiddenWidths.length === 0;
}

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

/** x_{l+1} = x_0 * (x_l W_l + b_l) + x_l */
function crossLayers(frame: ForwardFrame<CrossOptions>, input: Piece): Piece {
  const { tf, options } = frame;
  const rank = options.crossRank;
  let crossed = input;
  for (const block of crossBlocks(options)) {
    const weighted =
      rank === undefined
        ? frame.product([crossed], `${block}.weight`)
        : frame.product(
            [{ values: frame.product([crossed], `${block}.compress`), rowCount: rank }],
            `${block}.expand`,
          );
    const biased = frame.withBias(weighted, `${block}.bias`);
    const values = frame.apply(block, [input.values, biased, crossed.values], (x0, factor, x) =>
      tf.add(tf.mul(x0, factor), x),
    );
    crossed = { ...crossed, values };
  }
  return crossed;
}
