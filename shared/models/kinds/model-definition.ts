/**
 * The definition of a model: its options and the terms of its logit. Bias, embedding tables, linear
 * weights, number factors and the adgroup embedding are common to all models and belong to `model-spec.ts`.
 */

import type { z } from 'zod';
import type { FieldFrame, ForwardFrame, Staged } from './forward-frame.js';
import type { ModelOptions } from './model-options.js';
import {
  blocksOf,
  forwardOf,
  variablesOf,
  weighsPairs,
  type BlockVariable,
  type ModelTerms,
} from './model-terms.js';

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
