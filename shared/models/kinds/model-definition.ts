/**
 * The definition of a model: its options and the terms of its logit. Bias, embedding tables, linear
 * weights, number factors and the adgroup embedding are common to all models and belong to `model-spec.ts`.
 */

import type { z } from 'zod';
import type { ModelOptions } from './model-options.js';
import type * as tfjs from '@tensorflow/tfjs';

/** A value of an option that does not go with the others. */
export interface OptionMisfit {
  /** Within the options. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** The options of all models and those of one model. */
type OptionsOf<Own extends z.ZodRawShape> = ModelOptions & z.infer<z.ZodObject<Own>>;

/** Members that take options are methods, so that models of different options fit one list. */
interface ModelFrame<Own extends z.ZodRawShape> {
  /** The value of `model.kind`. */
  readonly kind: string;
  /**
   * Options that not every model takes: those of `FIELD_OPTIONS` by which it is shaped, and its own.
   * Each is optional and has no default, so that a new option changes no existing config.
   */
  readonly options: Own;
  /** The rule for linear weights: always, never, or as the config says. */
  readonly linear: 'always' | 'never' | 'by-default' | 'on-demand';
  /** Why a config cannot choose otherwise, if `linear` is `always` or `never`. */
  readonly linearAdvice?: string;
  /** Fields have embeddings. */
  readonly hasFactors: boolean;
  readonly hasHiddenLayers: boolean;
  misfitsOf?(options: OptionsOf<Own>): readonly OptionMisfit[];
}

/** A model as data, which everything that computes models interprets. */
interface ModelOfTerms<Own extends z.ZodRawShape> extends ModelFrame<Own> {
  terms(options: OptionsOf<Own>): ModelTerms;
}

/** A model, made of terms or with a forward pass of its own. Only the captured graph scores the latter. */
export interface ModelDefinition<
  Own extends z.ZodRawShape = z.ZodRawShape,
> extends ModelFrame<Own> {
  terms?(options: OptionsOf<Own>): ModelTerms;
  /**
   * Returns whether weights belong to pairs of fields (never if absent). They need two fields, and no
   * generated embedding, which would put the pairs in another order.
   */
  weighsPairs?(options: OptionsOf<Own>): boolean;
  /** Personal blocks in addition to `bias`, `numbers` and `adgroupEmbedding`. */
  blocks(options: OptionsOf<Own>): readonly string[];
  /** In an order that never changes: checkpoints hold variables in the order of the spec. */
  variables(options: OptionsOf<Own>, fields: FieldFrame): readonly BlockVariable[];
  /** The terms of the logit in addition to its bias. */
  forward(frame: ForwardFrame<OptionsOf<Own>>): readonly Staged[];
}

/** Defines a model by its terms, or by blocks, variables and forward pass. */
export function defineModel<Own extends z.ZodRawShape>(
  model: ModelOfTerms<Own> | ModelDefinition<Own>,
): ModelDefinition<Own> {
  if ('forward' in model) return model;
  return {
    ...model,
    weighsPairs: (options) => weighsPairs(model.terms(options)),
    blocks: (options) => blocksOf(model.terms(options), options),
    variables: (options, fields) => variablesOf(model.terms(options), options, fields),
    forward: (frame) => forwardOf(frame, model.terms(frame.options)),
  };
}

/**
 * A model as data: the terms that its logit has in addition to bias and linear weights. Everything that
 * computes the model interprets them: the training graph (`forwardOf` below), and through
 * `worker/serving/scoring-plan.ts` the reference scorer, the kernel and the ONNX model.
 *
 *   logit = bias + linear(x) + pair sum + <output, [cross layers ; tower ; weighed products]>
 */
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
function weighsPairs({ tower, weighed }: ModelTerms): boolean {
  return tower?.products?.inner === 'pairs' || weighed?.inner === 'pairs';
}

export function outputReadsCrossed({ cross, tower }: ModelTerms): boolean {
  return cross !== undefined && tower?.over !== 'crossed';
}

export function hasOutput({ cross, tower, weighed }: ModelTerms): boolean {
  return cross !== undefined || tower !== undefined || weighed !== undefined;
}

/** The blocks that may be personal. */
function blocksOf(terms: ModelTerms, { hiddenWidths }: ModelOptions): string[] {
  return [
    ...crossBlocks(terms),
    ...(terms.tower === undefined ? [] : hiddenWidths.map((_, index) => `layer${index}`)),
    ...(hasOutput(terms) ? ['output'] : []),
  ];
}

function crossBlocks({ cross }: ModelTerms): string[] {
  return Array.from({ length: cross?.layerCount ?? 0 }, (_, index) => `cross${index}`);
}

function variablesOf(
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
function forwardOf<Options extends ModelOptions>(
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

/** The parts of a model that the shapes of its variables depend on. */
export interface FieldFrame {
  /** Fields, the adgroup embedding included. */
  readonly fieldCount: number;
  readonly embeddingWidth: number;
  /** Places of the fields whose products enter the model. */
  readonly factorisedPlaces: readonly number[];
  /** Places of the fields that have a linear weight alone. */
  readonly widePlaces: readonly number[];
}

/**
 * A value of a forward pass, known at a stage: `variables` (made of shared variables alone), `trunk`
 * (made of rows and shared variables) or `personal` (reached by a personal block). The worker
 * computes trunk values once per batch and personal values in every inner step, so a model states
 * each value once and never asks which blocks are personal.
 */
export interface Staged {
  readonly stage: 'variables' | 'trunk' | 'personal';
  readonly name: string;
  /** For the worker; throws where the pass under way does not know the value. */
  readonly tensor: () => tfjs.Tensor;
}

/** A part of a layer's input. Its rows of the layer's weights follow those of the piece before. */
export interface Piece {
  /** `[.., width]`, or a group of fields. */
  readonly values: Staged;
  /** Rows of the weights. */
  readonly rowCount: number;
  /**
   * For fields, which may have linear terms between them: whether the layer reads the vector of each
   * field. Such pieces come first.
   */
  readonly isMet?: readonly boolean[];
  /** For values of all fields side by side, and for what layers make of each of them: dropped as those of fields are. */
  readonly areOfFields?: true;
}

/**
 * The operations that a model's forward pass is written in. A worker hands a model this frame (`worker/compute/models`);
 * the model returns the terms of its logit. Field vectors are `e_f`, and `S` is their sum. A term of the logit is `[..]`, one number per row.
 */
export interface ForwardFrame<Options extends ModelOptions = ModelOptions> {
  readonly tf: typeof tfjs;
  readonly options: Options;
  readonly fields: FieldFrame;

  /** The term linear(x); none if the model has no linear weights. */
  readonly linear: () => Staged[];
  /** The term linear(x) + sum_{f < g} <e_f, e_g> over the factorised fields. */
  readonly linearAndPairs: () => Staged[];
  /** The term sum_f w_f <e_f, S - e_f>, whose weights are rows of the output layer from `firstRow` on. */
  readonly weightedInteractions: (firstRow: number) => Staged[];
  /** The output layer's term, `output.weight` times the input. */
  readonly outputTerm: (input: readonly Piece[]) => Staged;

  /** All fields except the wide ones, side by side: the input of a tower. */
  readonly fieldPieces: () => Piece[];
  /** All field vectors as one value, `[.., fieldCount * embeddingWidth]`. */
  readonly fieldVectors: () => Piece;
  /** <e_f, S - e_f> of each factorised field. */
  readonly interactionsByField: () => Piece[];
  /** <e_f, e_g> of every two factorised fields. */
  readonly innerProducts: () => Piece[];
  /** (sum_f e_f)(sum_f e_f)' over the factorised fields. */
  readonly outerProduct: () => Piece[];

  /** The last hidden layer, after ReLU; the input itself if there is none. */
  readonly hiddenLayers: (input: readonly Piece[]) => readonly Piece[];
  /** The input times the variable `weights` `[in, out]`: `[.., out]`. */
  readonly product: (input: readonly Piece[], weights: string) => Staged;
  /** `x` plus the variable `bias` `[out]`. */
  readonly withBias: (x: Staged, bias: string) => Staged;

  readonly variable: (name: string) => Staged;
  /**
   * A value of the model's own. Rows of the inputs are `[.., width]` and may differ in rank and
   * extent in their leading axes, so `compute` addresses axes from the last one.
   *
   * @param name unique within the forward pass.
   */
  readonly apply: (
    name: string,
    inputs: readonly Staged[],
    compute: (...tensors: tfjs.Tensor[]) => tfjs.Tensor,
  ) => Staged;
}
