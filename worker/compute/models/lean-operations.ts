/** What the forward passes are made of, beyond the kernels: sums over fields and the loss. */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../engine/load-engine.js';

/**
 * Per column of fields `[rowCount, fieldCount, width]` the sum and the sum of squares over fields:
 * `[rowCount, 2 * width]`.
 */
export function fieldSums({ tf }: Engine, fields: tfjs.Tensor3D): tfjs.Tensor2D {
  const [rowCount, , width] = fields.shape;
  return tf.customGrad((input, save) => {
    const x = input as tfjs.Tensor3D;
    (save as (tensors: tfjs.Tensor[]) => void)([x]);
    return {
      value: tf.concat([tf.sum(x, 1), tf.sum(tf.square(x), 1)], 1),
      gradFunc: (dy, saved) => {
        const [ofSum, ofSquares] = tf.split(tf.reshape(dy, [rowCount, 1, 2 * width]), 2, 2);
        if (ofSum === undefined || ofSquares === undefined) throw new Error('split in two');
        return tf.add(ofSum, tf.mul(saved[0] ?? x, tf.add(ofSquares, ofSquares)));
      },
    };
  })(fields) as tfjs.Tensor2D;
}

/**
 * Loss of each task, `[taskCount]`: sum over its rows of i softplus(z) - c z, where i and c are the
 * row's shares of the task's impressions. All arguments `[taskCount, rowExtent]`.
 */
export function taskLosses(
  { tf }: Engine,
  logits: tfjs.Tensor2D,
  impressionShares: tfjs.Tensor2D,
  clickShares: tfjs.Tensor2D,
): tfjs.Tensor1D {
  return tf.customGrad((input, save) => {
    const z = input as tfjs.Tensor2D;
    (save as (tensors: tfjs.Tensor[]) => void)([z]);
    return {
      value: tf.sum(tf.sub(tf.mul(impressionShares, tf.softplus(z)), tf.mul(clickShares, z)), 1),
      gradFunc: (dy, saved) =>
        tf.mul(
          tf.expandDims(dy, 1),
          tf.sub(tf.mul(impressionShares, tf.sigmoid(saved[0] ?? z)), clickShares),
        ),
    };
  })(logits) as tfjs.Tensor1D;
}

/**
 * The same losses of flat rows: arguments `[1, rowExtent]`, and for each row its task. Rows of a
 * task are added in their order.
 */
export function flatTaskLosses(
  { tf, kernels }: Engine,
  logits: tfjs.Tensor2D,
  impressionShares: tfjs.Tensor2D,
  clickShares: tfjs.Tensor2D,
  taskOfPlace: tfjs.Tensor1D,
  taskCount: number,
): tfjs.Tensor1D {
  return tf.customGrad((input, save) => {
    const z = input as tfjs.Tensor2D;
    (save as (tensors: tfjs.Tensor[]) => void)([z]);
    const losses = tf.sub(tf.mul(impressionShares, tf.softplus(z)), tf.mul(clickShares, z));
    const column = tf.reshape<tfjs.Rank.R2>(losses, [-1, 1]);
    return {
      value: tf.reshape(kernels.sumSegments(column, taskOfPlace, taskCount), [taskCount]),
      gradFunc: (dy, saved) => {
        const byRow = kernels.gatherRows(tf.reshape(dy, [taskCount, 1]), taskOfPlace);
        return tf.mul(
          tf.reshape(byRow, z.shape),
          tf.sub(tf.mul(impressionShares, tf.sigmoid(saved[0] ?? z)), clickShares),
        );
      },
    };
  })(logits) as tfjs.Tensor1D;
}
