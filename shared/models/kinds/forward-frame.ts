/**
 * The operations that a model's forward pass is written in. A worker hands a model this frame
 * (`worker/compute/models`); the model returns the terms of its logit. Model files import types of
 * the tensor library and no code of it, so the coordinator reads the same files without it.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelOptions } from './model-options.js';

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

/** Field vectors are `e_f`, and `S` is their sum. A term of the logit is `[..]`, one number per row. */
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
