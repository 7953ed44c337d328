/**
 * A model: one file of this folder, which states its formula, the options it takes, its personal
 * blocks, its variables and its forward pass. Bias, embedding tables, linear weights, number factors
 * and the adgroup embedding are the same for all models and belong to `model-spec.ts`.
 */

import type { z } from 'zod';
import type { FieldFrame, ForwardFrame, Staged } from './forward-frame.js';
import type { ModelOptions } from './model-options.js';

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

/** A value of an option that does not go with the others. */
export interface OptionMisfit {
  /** Within the options. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** The options of all models and those of one model. */
export type OptionsOf<Own extends z.ZodRawShape> = ModelOptions & z.infer<z.ZodObject<Own>>;

/** Members that take options are methods, so that models of different options fit one list. */
export interface ModelDefinition<Own extends z.ZodRawShape = z.ZodRawShape> {
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
  /** The least number of factorised fields; 0 if absent. */
  factorisedFieldsMin?(options: OptionsOf<Own>): number;
  misfitsOf?(options: OptionsOf<Own>): readonly OptionMisfit[];
  /**
   * Returns whether weights belong to pairs of fields (never if absent). A generated embedding would put the
   * pairs in another order, which such weights do not survive.
   */
  weighsPairs?(options: OptionsOf<Own>): boolean;
  /** Personal blocks beside `bias`, `numbers` and `adgroupEmbedding`. */
  blocks(options: OptionsOf<Own>): readonly string[];
  /** In an order that never changes: checkpoints hold variables in the order of the spec. */
  variables(options: OptionsOf<Own>, fields: FieldFrame): readonly BlockVariable[];
  /** The terms of the logit beside its bias. */
  forward(frame: ForwardFrame<OptionsOf<Own>>): readonly Staged[];
}

/** Checks the types and returns its argument. */
export function defineModel<Own extends z.ZodRawShape>(
  model: ModelDefinition<Own>,
): ModelDefinition<Own> {
  return model;
}
