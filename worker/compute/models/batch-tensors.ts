/** A row batch on the device, as a structure of tensors that a captured function takes. */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../engine/load-engine.js';
import type { RowBatch } from '../row-batch.js';
import type { LossTerms } from './lean-operations.js';

/** What the model has none of is absent: no tensor is empty. */
export type BatchTensors = {
  /** `[taskCount * rowExtent * categoryCount]` */
  readonly categoryPlaces?: tfjs.Tensor1D;
  readonly members?: {
    readonly places: tfjs.Tensor1D;
    readonly bags: tfjs.Tensor1D;
    /** `[memberExtent, 1]` */
    readonly weights: tfjs.Tensor2D;
  };
  /** `[taskCount * rowExtent, numberCount]` */
  readonly numbers?: tfjs.Tensor2D;
  /** Of flat rows, which lie `[1, rowExtent]`: the task of each, `[rowExtent]`. */
  readonly taskOfPlace?: tfjs.Tensor1D;
  /** Of each task, `[taskCount]`, where they were asked for. */
  readonly totals?: {
    readonly impressions: tfjs.Tensor1D;
    readonly clicks: tfjs.Tensor1D;
    /** 1 for tasks of values; absent where there are none. */
    readonly isOfValues?: tfjs.Tensor1D;
  };
} & LossTerms;

export function batchTensorsOf({ tf }: Engine, batch: RowBatch, hasTotals = false): BatchTensors {
  const { taskCount, rowExtent, categoryCount, bagCount, numberCount, members } = batch;
  const byTask: [number, number] = [taskCount, rowExtent];
  return {
    ...(categoryCount === 0 ? {} : { categoryPlaces: tf.tensor1d(batch.categoryPlaces, 'int32') }),
    ...(bagCount === 0
      ? {}
      : {
          members: {
            places: tf.tensor1d(members.places, 'int32'),
            bags: tf.tensor1d(members.bags, 'int32'),
            weights: tf.tensor2d(members.weights, [members.weights.length, 1]),
          },
        }),
    ...(numberCount === 0
      ? {}
      : { numbers: tf.tensor2d(batch.numbers, [taskCount * rowExtent, numberCount]) }),
    impressionShares: tf.tensor2d(batch.impressionShares, byTask),
    clickShares: tf.tensor2d(batch.clickShares, byTask),
    ...(batch.taskOfPlace === null ? {} : { taskOfPlace: tf.tensor1d(batch.taskOfPlace, 'int32') }),
    ...(hasTotals
      ? {
          totals: {
            impressions: tf.tensor1d(batch.impressionTotals),
            clicks: tf.tensor1d(batch.clickTotals),
            ...(batch.squared === null ? {} : { isOfValues: tf.tensor1d(batch.squared.taskFlags) }),
          },
        }
      : {}),
    ...(batch.squared === null
      ? {}
      : {
          squared: {
            impressionShares: tf.tensor2d(batch.squared.impressionShares, byTask),
            constants: tf.tensor2d(batch.squared.constants, byTask),
          },
        }),
  };
}

export interface PlaceCounts {
  readonly taskCount: number;
  readonly rowExtent: number;
  readonly placeCount: number;
}

export function placeCountsOf({ impressionShares }: BatchTensors): PlaceCounts {
  const [taskCount, rowExtent] = impressionShares.shape;
  return { taskCount, rowExtent, placeCount: taskCount * rowExtent };
}
