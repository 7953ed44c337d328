/**
 * The contract of a meta-learning method: one file of `shared/methods` states its settings, the
 * variables it learns beside the model's, how a task adapts, and what the outer gradient is taken
 * of. The gradient itself follows by differentiation (`worker/compute/meta-gradients`), prediction
 * runs the same inner loop, and the coordinator reads the settings and variables.
 */

import type { z } from 'zod';
import type { Variable } from '../../tensors/named-tensors.js';
import type { InnerLoop } from './inner-loop.js';

/** How the meta-parameters learn from adapted tasks. */
export type OuterGradient =
  /** No task adapts in training: the gradient of the loss over all rows, before any step. */
  | { readonly kind: 'unadapted' }
  /** The derivative of the query losses through start and steps. */
  | {
      readonly kind: 'derivative';
      /**
       * `first` treats the inner gradients as constants; `second` differentiates through them; `last-step` does so in
       * the last step, and treats the ones before as constants, for steps that forget where they began.
       */
      readonly order: 'first' | 'second' | 'last-step';
    };

/** The part of the outer loss that judges the start before any adaptation. */
export interface ColdTerm {
  /** Share of the outer loss, above 0. */
  readonly share: number;
  /** Which rows it judges. `support` is for second-order derivatives alone. */
  readonly rows: 'all' | 'support';
}

/** The parts of a model that a method's variables depend on. */
export interface ModelShape {
  readonly variables: readonly Variable[];
  /** Numbers of a table row without its linear weight. */
  readonly embeddingWidth: number;
  readonly tableRowWidth: number;
  readonly categoryFeatures: readonly string[];
  readonly bagFeatures: readonly { readonly name: string }[];
  readonly numberFeatures: readonly string[];
  readonly tables: readonly { readonly name: string; readonly rowCount: number }[];
}

/** The plan of a method with given settings. */
export interface MethodPlan {
  /** How a task adapts; a method whose gradient is `unadapted` adapts in predictions alone. */
  readonly innerLoop: InnerLoop;
  readonly outer: OuterGradient;
  /** Null: the outer loss judges adapted tasks alone. */
  readonly cold: ColdTerm | null;
  /** `method`: the model stays as it is, and the method's variables learn alone. */
  readonly learns?: 'method';
  /** The category whose values are crowds: blocks of their own are added to those of the task; absent if there is none. */
  readonly crowd?: string;
  /** Variables beside the model's, of the block `method`. */
  readonly variables?: (model: ModelShape) => readonly Variable[];
}

/** Returns whether tasks adapt in training. If not, one model is learned on all rows of all tasks alike. */
export function adapts({ outer }: MethodPlan): boolean {
  return outer.kind !== 'unadapted';
}

/** The settings of a model that methods may depend on. */
export interface ModelSettings {
  /** Names of the personal blocks. */
  readonly personal: readonly string[];
  /** The category whose embedding is generated; absent if none is. */
  readonly generated?: string | undefined;
}

/** A setting of a method that does not fit a model. */
export interface SettingMisfit {
  /** Within the method's settings. */
  readonly path: readonly string[];
  readonly message: string;
}

export interface Method<Settings extends z.ZodObject> {
  /** A strict object whose `kind` is a literal: the section `method` of a run config. */
  readonly settings: Settings;
  readonly planOf: (settings: z.infer<Settings>) => MethodPlan;
  /** What reports call the rate and a step, if they are not those of gradients. */
  readonly adaptationWords?: { readonly rate: string; readonly step: string };
  readonly misfitsOf?: (
    settings: z.infer<Settings>,
    model: ModelSettings,
  ) => readonly SettingMisfit[];
}

/** Checks the types and returns its argument. */
export function defineMethod<Settings extends z.ZodObject>(
  method: Method<Settings>,
): Method<Settings> {
  return method;
}
