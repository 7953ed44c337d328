/**
 * What a meta-learning method is: one file of this folder, which states its settings, the variables
 * it learns beside the model's, and how a task adapts. Nothing else: the outer gradient follows by
 * differentiation (`worker/compute/meta-gradients`), prediction runs the same start and steps, and
 * the coordinator reads the settings and variables. A method is handed the tensor library; this
 * folder imports none.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { z } from 'zod';
import type { Variable } from '../../tensors/variable.js';

/** Personal blocks of all tasks by variable name: `[taskCount, ...shape]`. */
export type Blocks = { readonly [name: string]: tfjs.Tensor };

/** A micro-batch of tasks as a method sees it. */
export interface AdaptingTasks {
  readonly tf: typeof tfjs;
  readonly taskCount: number;
  /** Names of the personal variables, in the order of the model. */
  readonly personal: readonly string[];
  /** A variable as all tasks share it, the method's own included. */
  readonly variable: (name: string) => tfjs.Tensor;
  /** `[taskCount, ...shape]`: `x` once per task. */
  readonly repeatByTask: (x: tfjs.Tensor) => tfjs.Tensor;
  /**
   * Embedded features of each task's first row, `[taskCount, sum of widths]`, in the order of
   * `names`: for attributes, which all rows of a task share. Only with `reads.attributes`.
   */
  readonly attributes: (names: readonly string[]) => tfjs.Tensor2D;
  /** Support rows for which each task has a place, padding included; 0 without support rows. */
  readonly supportRowExtent: number;
  /** Only with `reads.supportTotals`. */
  readonly supportTotals: () => SupportTotals;
  /**
   * Embedded features of the support rows, in the order of `names`, or all; null where there are no
   * rows, as in the cold term, which is the loss of a task without support. Only with
   * `reads.supportFields`.
   */
  readonly supportFields: (names?: readonly string[]) => SupportFields | null;
  /**
   * Null where no task has any, as in the cold term: a task without support has no neighbours. Only
   * with `reads.neighbours`.
   */
  readonly neighbours: () => Neighbours | null;
}

/** Training tasks like each of some tasks, `count` places for each of them (`tasks/neighbour-rows.ts`). */
export interface Neighbours {
  /** `taskCount * count` tasks of support rows alone, those of the first task first. */
  readonly tasks: AdaptingTasks;
  /** `[taskCount, count]`: 1 for a neighbour, 0 for a place without. */
  readonly isThere: tfjs.Tensor2D;
}

/** Support rows, by task; padding has no shares. */
export interface SupportFields {
  /** `[taskCount, rowExtent, sum of widths]` */
  readonly fields: tfjs.Tensor3D;
  /** Of the task's support impressions, `[taskCount, rowExtent]`. */
  readonly impressionShares: tfjs.Tensor2D;
  /** Clicks over the task's support impressions; of values, weighted standardised values. */
  readonly clickShares: tfjs.Tensor2D;
}

/** Sums over each task's support rows, `[taskCount]` each; 0 where there are none. */
export interface SupportTotals {
  readonly impressions: tfjs.Tensor1D;
  /** Of a task of values, the sum of weighted standardised values: not a count. */
  readonly clicks: tfjs.Tensor1D;
  /** 1 for tasks of values, 0 for tasks of clicks; absent where all are of clicks. */
  readonly isOfValues?: tfjs.Tensor1D;
}

/**
 * Variance of a row's label in units of its loss, `[taskCount]`, which is the curvature of the loss:
 * q (1 - q) of a click at the smoothed click rate q, 1 of a value.
 *
 * @param smoothing clicks and impressions that the rate begins with
 */
export function labelVariances(
  tf: typeof tfjs,
  { impressions, clicks, isOfValues }: SupportTotals,
  smoothing: { readonly clicks: number; readonly impressions: number },
): tfjs.Tensor {
  const rates = tf.div(
    tf.add(clicks, smoothing.clicks),
    tf.add(impressions, smoothing.impressions),
  );
  const ofClicks = tf.mul(rates, tf.sub(1, rates));
  if (isOfValues === undefined) return ofClicks;
  return tf.add(tf.mul(ofClicks, tf.sub(1, isOfValues)), isOfValues);
}

export interface InnerStep {
  readonly blocks: Blocks;
  /**
   * Inner rate times the gradient of each task's mean support loss at `blocks`; with inner momentum
   * the velocity. A learned rate multiplies it.
   */
  readonly scaledGradients: Blocks;
  /** The inner rate of each task, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
  /** From 0. */
  readonly stepIndex: number;
}

export type OuterGradient =
  /** Personal blocks: start minus end, after steps on the support rows and, if so, the query rows. */
  | { readonly kind: 'displacement'; readonly continuesOnQuery: boolean }
  /** That of a minimum with `proximalWeight`, solved for by so many conjugate-gradient steps. */
  | { readonly kind: 'implicit'; readonly iterationCount: number };

/** A shift of logits by level, and by value of features. */
export interface LevelShift {
  /** Category features whose values have a shift each, shrunk by the evidence of that value. */
  readonly features: readonly string[];
}

/** Which tasks are neighbours of a task: those that share most ids of a category or bag with it. */
export interface NeighbourChoice {
  readonly feature: string;
  /** Of each task, at most; 1 to `NEIGHBOURS_MAX`. */
  readonly count: number;
}

/** How tasks adapt: `start`, then `innerSteps` times the gradient and `step`. */
export interface InnerLoop {
  /** 0: `start` is all of it, and no level shift follows. */
  readonly innerSteps: number;
  readonly innerRate: number;
  /** `first`: the inner gradients are constants of the outer gradient. `second`: it runs through them. */
  readonly order: 'first' | 'second';
  /**
   * What the way back through the inner steps reads: all that they computed, `kept`, or only the
   * blocks between them, the rest `recomputed`. Without meaning in first order.
   */
  readonly path: 'kept' | 'recomputed';
  /** Share of the outer loss that is the loss before adaptation. */
  readonly coldShare: number;
  /** The rows of that loss: all, or the support rows when said so. Of second order alone. */
  readonly coldRows?: 'support';
  /** Of the velocity (Polyak, 1964); 0 is none. */
  readonly momentum: number;
  /** Step s sees the support rows r with r mod this = s mod this: 1 (when absent), 2, 4 or 8. */
  readonly supportBatches?: number;
  /** Pulls a task's blocks towards their start: (weight / 2) |phi - start|^2 beside its loss. */
  readonly proximalWeight?: number;
  /** Where the outer gradient is not the derivative of the query losses through start and steps. */
  readonly outerGradient?: OuterGradient;
  /** Whether a shift of its logits, shrunk by evidence, follows a task's inner steps, and which. */
  readonly levelShift: boolean | LevelShift;
  /** What is computed for the method beyond support and query rows. */
  readonly reads?: {
    readonly attributes?: true;
    readonly supportTotals?: true;
    readonly supportFields?: true;
    readonly neighbours?: NeighbourChoice;
  };
  /** Initial blocks; the personal variables once per task when absent. */
  readonly start?: (tasks: AdaptingTasks) => Blocks;
  /** Blocks after a step; blocks minus scaled gradients when absent. */
  readonly step?: (tasks: AdaptingTasks, step: InnerStep) => Blocks;
  /** Whether `step` reads `stepIndex` (below `innerSteps`: later steps repeat the last). */
  readonly stepsDiffer?: true;
}

/** The parts of a model that a method's variables depend on. */
export interface ModelShape {
  readonly variables: readonly Variable[];
  readonly tableRowWidth: number;
  readonly categoryFeatures: readonly string[];
  readonly bagFeatures: readonly { readonly name: string }[];
  readonly numberFeatures: readonly string[];
}

/** A method with its settings. */
export interface MethodPlan {
  /** Null: one model for all tasks alike, learned on all of their rows. */
  readonly innerLoop: InnerLoop | null;
  /** How tasks adapt when they are predicted; as they do in training when absent. */
  readonly predictionLoop?: InnerLoop;
  /** `method`: the model stays as it is, and the method's variables learn alone. */
  readonly learns?: 'method';
  /** Variables beside the model's, of the block `method`. */
  readonly variables?: (model: ModelShape) => readonly Variable[];
}

/** The settings of a model that methods may depend on. */
export interface ModelSettings {
  /** Names of the personal blocks. */
  readonly personal: readonly string[];
}

/** What of a method's settings does not go with a model. */
export interface SettingMisfit {
  /** Within the method's settings. */
  readonly path: readonly string[];
  readonly message: string;
}

export interface Method<Settings extends z.ZodObject> {
  /** A strict object whose `kind` is a literal: the section `method` of a run config. */
  readonly settings: Settings;
  readonly planOf: (settings: z.infer<Settings>) => MethodPlan;
  readonly misfitsOf?: (
    settings: z.infer<Settings>,
    model: ModelSettings,
  ) => readonly SettingMisfit[];
  /** The settings at an outer step, where they change in the course of training. */
  readonly settingsAt?: (settings: z.infer<Settings>, outerStep: number) => z.infer<Settings>;
  /**
   * Weights of the query losses after each inner step, which sum to 1; null where the loss after the
   * last one is the only one that counts.
   */
  readonly stepWeightsAt?: (
    settings: z.infer<Settings>,
    outerStep: number,
  ) => readonly number[] | null;
}

/** Checks the types and returns its argument. */
export function defineMethod<Settings extends z.ZodObject>(
  method: Method<Settings>,
): Method<Settings> {
  return method;
}
