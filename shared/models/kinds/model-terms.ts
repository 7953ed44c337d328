/**
 * A model as data: the terms that its logit has in addition to bias and linear weights. Everything that
 * computes the model interprets them: the training graph (`forwardOf` below), and through
 * `worker/serving/scoring-plan.ts` the reference scorer, the kernel and the ONNX model.
 *
 *   logit = bias + linear(x) + pair sum + <output, [cross layers ; tower ; weighed products]>
 */

import type { FieldFrame, ForwardFrame, Piece, Staged } from './forward-frame.js';
import type { ModelOptions } from './model-options.js';

export interface ModelTerms {
  /** The term sum_{f < g} <e_f, e_g> over the factorised fields. */
  readonly hasPairSum?: boolean;
  readonly cross?: CrossLayers;
  /** Hidden layers of `hiddenWidths`: over fields, except the wide ones, and products, or over the cross layers. */
  readonly tower?: { readonly over: 'fields' | 'crossed'; readonly products?: Products };
  /** Products that the output layer weighs. */
  readonly weighed?: Products;
}

/** Cross layers over the vectors of all fields. */
interface CrossLayers {
  readonly layerCount: number;
  /** Full if absent. */
  readonly rank?: number | undefined;
}

/** Products of the vectors of factorised fields. */
export interface Products {
  /** <e_f, e_g> of every two fields, or <e_f, S - e_f> of each with S the sum over all fields. */
  readonly inner?: 'pairs' | 'by-field';
  /** (sum_f e_f)(sum_f e_f)' */
  readonly outer?: boolean;
}

/** The initial spread of a weight matrix, unless the config chooses Glorot's. */
export type WeightInitialisation =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'weights'; readonly deviation: number; readonly extents: [number, number] };

/** A variable that is the model's own. */
export interface BlockVariable {
  /** The name under which the variable may be personal. */
  readonly block: string;
  readonly name: string;
  readonly shape: readonly number[];
  readonly initial: WeightInitialisation;
}

/** Returns whether weights belong to pairs of fields. */
export function weighsPairs({ tower, weighed }: ModelTerms): boolean {
  return tower?.products?.inner === 'pairs' || weighed?.inner === 'pairs';
}

export function outputReadsCrossed({ cross, tower }: ModelTerms): boolean {
  return cross !== undefined && tower?.over !== 'crossed';
}

export function hasOutput({ cross, tower, weighed }: ModelTerms): boolean {
  return cross !== undefined || tower !== undefined || weighed !== undefined;
}

/** The blocks that may be personal. */
export function blocksOf(terms: ModelTerms, { hiddenWidths }: ModelOptions): string[] {
  return [
    ...crossBlocks(terms),
    ...(terms.tower === undefined ? [] : hiddenWidths.map((_, index) => `layer${index}`)),
    ...(hasOutput(terms) ? ['output'] : []),
  ];
}

function crossBlocks({ cross }: ModelTerms): string[] {
  return Array.from({ length: cross?.layerCount ?? 0 }, (_, index) => `cross${index}`);
}

export function variablesOf(
  terms: ModelTerms,
  options: ModelOptions,
  fields: FieldFrame,
): BlockVariable[] {
  const { cross, tower, weighed } = terms;
  const { fieldCount, widePlaces, embeddingWidth } = fields;
  const crossWidth = fieldCount * embeddingWidth;
  const towerInput =
    tower?.over === 'crossed'
      ? crossWidth
      : (fieldCount - widePlaces.length) * embeddingWidth + productCount(tower?.products, fields);
  const hidden = tower === undefined ? NO_LAYERS : hiddenLayers(options, towerInput);
  const outputInput =
    (outputReadsCrossed(terms) ? crossWidth : 0) + hidden.width + productCount(weighed, fields);
  return [
    ...crossBlocks(terms).flatMap((block) => crossLayer(block, crossWidth, cross?.rank)),
    ...hidden.variables,
    ...(hasOutput(terms) ? [outputLayer(outputInput)] : []),
  ];
}

function productCount(
  products: Products | undefined,
  { factorisedPlaces: { length }, embeddingWidth }: FieldFrame,
): number {
  const { inner, outer } = products ?? {};
  const innerCount = { pairs: (length * (length - 1)) / 2, 'by-field': length, none: 0 };
  return innerCount[inner ?? 'none'] + (outer === true ? embeddingWidth ** 2 : 0);
}

interface HiddenLayers {
  readonly variables: readonly BlockVariable[];
  /** The width of the last layer's output. */
  readonly width: number;
}

const NO_LAYERS: HiddenLayers = { variables: [], width: 0 };

/** Hidden layers with ReLU: `layerN.weight`, `layerN.bias`. */
export function hiddenLayers({ hiddenWidths }: ModelOptions, inputWidth: number): HiddenLayers {
  let width = inputWidth;
  const variables = hiddenWidths.flatMap((out, index): BlockVariable[] => {
    const block = `layer${index}`;
    // He et al. (2015): keeps the variance of activations through ReLU layers.
    const weight = weightVariable(block, `${block}.weight`, [width, out], Math.sqrt(2 / width));
    width = out;
    return [weight, biasVariable(block, out)];
  });
  return { variables, width };
}

/** The output layer, `output.weight`; its bias is the model's. */
export function outputLayer(inputWidth: number): BlockVariable {
  return weightVariable('output', 'output.weight', [inputWidth, 1], Math.sqrt(1 / inputWidth));
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
  return [...weights, biasVariable(block, width)];
}

export function weightVariable(
  block: string,
  name: string,
  shape: [number, number],
  deviation: number,
): BlockVariable {
  return { block, name, shape, initial: { kind: 'weights', deviation, extents: shape } };
}

function biasVariable(block: string, width: number): BlockVariable {
  return { block, name: `${block}.bias`, shape: [width], initial: { kind: 'zeros' } };
}

/** The terms in the operations of the training graph. */
export function forwardOf<Options extends ModelOptions>(
  frame: ForwardFrame<Options>,
  terms: ModelTerms,
): Staged[] {
  const { hasPairSum, cross, tower, weighed } = terms;
  const sums = hasPairSum === true ? frame.linearAndPairs() : frame.linear();
  const crossed = cross === undefined ? [] : [crossLayers(frame, cross)];
  const towerInput = (): Piece[] =>
    tower?.over === 'crossed'
      ? crossed
      : [...frame.fieldPieces(), ...productPieces(frame, tower?.products)];
  const hidden = tower === undefined ? [] : frame.hiddenLayers(towerInput());
  const input = [...(outputReadsCrossed(terms) ? crossed : []), ...hidden];
  // Sums over fields cost less than products by field, but their rows of the weights must be the last.
  const isSummed = weighed?.inner === 'by-field' && weighed.outer !== true;
  const rowCount = input.reduce((sum, piece) => sum + piece.rowCount, 0);
  const read = isSummed ? input : [...input, ...productPieces(frame, weighed)];
  return [
    ...sums,
    ...(read.length === 0 ? [] : [frame.outputTerm(read)]),
    ...(isSummed ? frame.weightedInteractions(rowCount) : []),
  ];
}

function productPieces<Options extends ModelOptions>(
  frame: ForwardFrame<Options>,
  { inner, outer }: Products = {},
): Piece[] {
  return [
    ...(inner === 'pairs' ? frame.innerProducts() : []),
    ...(inner === 'by-field' ? frame.interactionsByField() : []),
    ...(outer === true ? frame.outerProduct() : []),
  ];
}

/** x_{l+1} = x_0 * (x_l W_l + b_l) + x_l */
function crossLayers<Options extends ModelOptions>(
  frame: ForwardFrame<Options>,
  cross: CrossLayers,
): Piece {
  const { tf } = frame;
  const { rank } = cross;
  const input = frame.fieldVectors();
  let crossed = input;
  for (const block of crossBlocks({ cross })) {
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
