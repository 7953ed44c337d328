/**
 * How a task adapts, as a method states it: where its blocks start, and how they step along the gradient
 * of its support loss. A method is handed the tensor library; this folder imports none.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { NamedTensors } from '../../tensors/named-tensors.js';

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
  /** The solutions x of `A x = b` for positive definite `A`, `[taskCount, n, n]` and `[taskCount, n, columns]`. */
  readonly solve: (matrices: tfjs.Tensor3D, columns: tfjs.Tensor3D) => tfjs.Tensor3D;
  /**
   * Embedded features of each task's first row, `[taskCount, sum of widths]`, in the order of
   * `names`: for attributes, which all rows of a task share. Only with `reads.attributes`.
   */
  readonly attributes: (names: readonly string[]) => tfjs.Tensor2D;
  /** Only with `reads.supportTotals`. */
  readonly supportTotals: () => SupportTotals;
  /**
   * Embedded features of the support rows, in the order of `names`, or all; null where there are no
   * rows, as in the cold term, which is the loss of a task without support. Only with
   * `reads.supportFields`.
   */
  readonly supportFields: (names?: readonly string[]) => SupportFields | null;
  /** 1 for batches of trunk rows and 0 for tasks, `[taskCount]`; null where only tasks are computed. Only with `reads.trunkFlags`. */
  readonly trunkFlags: () => tfjs.Tensor1D | null;
}

/** Support rows, by task; padding has no shares. */
export interface SupportFields {
  /** `[taskCount, rowExtent, sum of widths]` */
  readonly fields: tfjs.Tensor3D;
  /** Each row's share of the task's support impressions, `[taskCount, rowExtent]`. */
  readonly impressionShares: tfjs.Tensor2D;
  /** Clicks over the task's support impressions; of values, weighted standardised values. */
  readonly clickShares: tfjs.Tensor2D;
}

/** Sums over each task's support rows, `[taskCount]` each; 0 where there are none. */
interface SupportTotals {
  readonly impressions: tfjs.Tensor1D;
  /** The clicks; for a task of values, the sum of weighted standardised values, which is not a count. */
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
  /** Inner rate times the gradient of each task's mean support loss at `blocks`. A learned rate multiplies it. */
  readonly scaledGradients: Blocks;
  /** The inner rate of each task, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
  /** Computed where it is called; not for first-order methods, whose steps see no rows. */
  readonly supportCurvature: () => SupportCurvature;
}

/** The parts of the second derivative of each task's mean support loss, where logits are linear in the personal blocks. */
export interface SupportCurvature {
  /**
   * The derivatives of each row's logit in the personal parameters, in the order of `personal`: `[taskCount, rowExtent,
   * count]`, 0 in padding.
   */
  readonly slopes: tfjs.Tensor3D;
  /** The second derivative of the loss in each row's logit, `[taskCount, rowExtent]`. */
  readonly variances: tfjs.Tensor2D;
}

/** The evidence that the variances of blocks rest on. */
export interface Uncertainty {
  /** The inner rate of each task, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
  /** Null before the first step, and where no task has support rows. */
  readonly supportCurvature: SupportCurvature | null;
}

/** Data that the worker computes for a method beyond the support and query rows. */
interface Reads {
  readonly attributes?: true;
  readonly supportTotals?: true;
  readonly supportFields?: true;
  /** The last hidden layer as features of a row, which dropout leaves whole: its noise would hide what a task's weights on them say. */
  readonly features?: true;
  readonly trunkFlags?: true;
}

/** How many inner steps there are, and at which pace. */
interface InnerSteps {
  /** With 0 the start is the whole adaptation. */
  readonly count: number;
  readonly rate: number;
}

/**
 * A normal prior of the personal bias and output weights, in numbers, with logistic or squared losses of the support rows: all
 * that a ranking server needs to find the posterior of an adgroup (`shared/tensors/native/posterior.h`). Numbers of parameters
 * are in the order of the model.
 */
export interface NormalPrior {
  readonly means: Float32Array;
  readonly precisions: Float32Array;
  /** `[fields of all features, parameters]`: how means move with the mean of the support rows' fields; empty if they do not. */
  readonly fieldWeights: Float32Array;
  /** Impressions by which that mean is shrunk. */
  readonly fieldShrinkage: number;
  /** The largest change of a row's logit in a step. */
  readonly stepLengthMax: number;
  /** A share of the trace of the evidence that is added to precisions. */
  readonly precisionMin: number;
  /** An adaptation at another rate multiplies the prior variances by its ratio to this one. */
  readonly innerRate: number;
}

/** The start of a task without support rows, in numbers, where it depends on attributes. */
export interface AttributeStart {
  readonly attributes: readonly string[];
  /**
   * The blocks that do not start as all tasks share them.
   *
   * @param dense the variables of the model and of the method.
   * @param attributes the embedded attributes, side by side.
   */
  readonly blocksOf: (
    dense: NamedTensors,
    personal: readonly string[],
    attributes: Float32Array,
  ) => NamedTensors;
}

/** How a task adapts: its start, then the inner steps. */
export interface InnerLoop {
  readonly steps: InnerSteps;
  readonly reads: Reads;
  /** Initial blocks; when absent, each task starts from the shared personal variables. */
  readonly start?: (tasks: AdaptingTasks) => Blocks;
  /** The blocks after an inner step; when absent, blocks minus scaled gradients. */
  readonly step?: (tasks: AdaptingTasks, step: InnerStep) => Blocks;
  /**
   * The variances of each task's personal parameters, `[taskCount, count]`, after the steps: logits are moderated by the
   * variance that they give them. When absent, blocks are points.
   */
  readonly variances?: (tasks: AdaptingTasks, at: Uncertainty) => tfjs.Tensor2D;
  /**
   * The prior whose posterior start, steps and variances compute. Ranking servers then adapt without the engine; they send
   * adgroups of other methods to a compute process.
   *
   * @param dense the variables of the model and of the method.
   */
  readonly prior?: (dense: NamedTensors, personal: readonly string[]) => NormalPrior;
  /** Ranking servers make the blocks of new adgroups by it; absent where all tasks without support rows start alike. */
  readonly attributeStart?: AttributeStart;
}

/** Whether the blocks of a task rest on its support rows after so many inner steps. */
export function restsOnSupport({ reads }: Pick<InnerLoop, 'reads'>, innerSteps: number): boolean {
  return innerSteps > 0 || reads.supportFields === true;
}
