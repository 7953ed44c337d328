/** A row batch on the device. The caller's `tf.tidy` owns the tensors. */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../engine/load-engine.js';
import type { RowBatch } from '../row-batch.js';

export interface BatchTensors {
  readonly batch: RowBatch;
  readonly categoryPlaces: tfjs.Tensor1D;
  /** Null when no bag of the batch has a member, too. */
  readonly members: {
    readonly places: tfjs.Tensor1D;
    readonly bags: tfjs.Tensor1D;
    /** `[memberCount, 1]` */
    readonly weights: tfjs.Tensor2D;
  } | null;
  /** `[rowCount, numberCount]` */
  readonly numbers: tfjs.Tensor2D;
  /** `[taskCount, taskRowCountMax]` */
  readonly impressionShares: tfjs.Tensor2D;
  readonly clickShares: tfjs.Tensor2D;
  readonly rowOfPlace: tfjs.Tensor1D;
  readonly placeOfRow: tfjs.Tensor1D;
}

export function batchTensorsOf({ tf }: Engine, batch: RowBatch): BatchTensors {
  const { taskCount, taskRowCountMax, rowCount, members } = batch;
  const byTask: [number, number] = [taskCount, taskRowCountMax];
  const memberCount = members.places.length;
  return {
    batch,
    categoryPlaces: tf.tensor1d(batch.categoryPlaces, 'int32'),
    members:
      memberCount === 0
        ? null
        : {
            places: tf.tensor1d(members.places, 'int32'),
            bags: tf.tensor1d(members.bags, 'int32'),
            weights: tf.tensor2d(members.weights, [memberCount, 1]),
          },
    numbers: tf.tensor2d(batch.numbers, [rowCount, batch.numbers.length / rowCount]),
    impressionShares: tf.tensor2d(batch.impressionShares, byTask),
    clickShares: tf.tensor2d(batch.clickShares, byTask),
    rowOfPlace: tf.tensor1d(batch.rowOfPlace, 'int32'),
    placeOfRow: tf.tensor1d(batch.placeOfRow, 'int32'),
  };
}
