/**
 * What a model has to say of itself (`kinds/`): the options it takes, its personal blocks and its
 * variables. Bias, embedding tables, linear weights, number factors and the adgroup embedding are
 * the same for all and belong to `model-spec.ts`; the forward passes live with the workers.
 */

import type { ModelOptions, OwnOption } from './model-options.js';

/** Expected spread of a weight matrix: by what follows it, unless the config asks for Glorot's. */
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

export interface ModelDefinition {
  readonly ownOptions: readonly OwnOption[];
  /** Whether there are linear weights: as the config says, or always alike. */
  readonly linear: 'always' | 'never' | 'by-default' | 'on-demand';
  /** Fields have embeddings. */
  readonly hasFactors: boolean;
  readonly hasHiddenLayers: boolean;
  /** Personal blocks beside `bias`, `numbers` and `adgroupEmbedding`. */
  readonly blocks: (options: ModelOptions) => readonly string[];
  /** In an order that never changes: checkpoints hold variables in the order of the spec. */
  readonly variables: (options: ModelOptions, frame: FieldFrame) => readonly BlockVariable[];
}
