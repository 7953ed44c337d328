/** Sums over fields and the loss, with gradients of few operations. */

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

/** The data of the rows that the loss reads, `[taskCount, rowExtent]` or flat `[1, rowExtent]` each. */
export type LossTerms = {
  /** Shares of the task's impressions. */
  readonly impressionShares: tfjs.Tensor2D;
  readonly clickShares: tfjs.Tensor2D;
  /** Present if some tasks of the batch have the squared loss; 0 in the rows of other tasks. */
  readonly squared?: {
    readonly impressionShares: tfjs.Tensor2D;
    /** The part of the loss that does not depend on the output. */
    readonly constants: tfjs.Tensor2D;
  };
};

/**
 * Loss of each row: i softplus(z) - c z, where i and c are the row's shares of the task's impressions;
 * with the squared loss, i z^2 / 2 - c z + c^2 / (2 i).
 */
function rowLosses(tf: typeof tfjs, z: tfjs.Tensor2D, terms: LossTerms): tfjs.Tensor2D {
  const { impressionShares, clickShares, squared } = terms;
  if (squared === undefined)
    return tf.sub(tf.mul(impressionShares, tf.softplus(z)), tf.mul(clickShares, z));
  const halves = tf.mul(squared.impressionShares, tf.mul(z, 0.5));
  return tf.add(
    tf.mul(tf.sub(impressionShares, squared.impressionShares), tf.softplus(z)),
    tf.add(tf.mul(tf.sub(halves, clickShares), z), squared.constants),
  );
}

/** The expected share of clicks of each row: i sigmoid(z); with the squared loss, i z. */
function rowMeans(tf: typeof tfjs, z: tfjs.Tensor, terms: LossTerms): tfjs.Tensor {
  const { impressionShares, squared } = terms;
  if (squared === undefined) return tf.mul(impressionShares, tf.sigmoid(z));
  const ofBinary = tf.sub(impressionShares, squared.impressionShares);
  return tf.add(tf.mul(ofBinary, tf.sigmoid(z)), tf.mul(squared.impressionShares, z));
}

/** The derivative of `rowMeans` by z: i p (1 - p) with p = sigmoid(z); with the squared loss, i. */
export function rowVariances(tf: typeof tfjs, z: tfjs.Tensor, terms: LossTerms): tfjs.Tensor {
  const { impressionShares, squared } = terms;
  const probability = tf.sigmoid(z);
  const variances = (shares: tfjs.Tensor): tfjs.Tensor =>
    tf.mul(tf.mul(shares, probability), tf.sub(1, probability));
  if (squared === undefined) return variances(impressionShares);
  const ofBinary = tf.sub(impressionShares, squared.impressionShares);
  return tf.add(variances(ofBinary), squared.impressionShares);
}

/** Loss of each task, `[taskCount]`: the sum over its rows. */
export function taskLosses({ tf }: Engine, logits: tfjs.Tensor2D, terms: LossTerms): tfjs.Tensor1D {
  return tf.customGrad((input, save) => {
    const z = input as tfjs.Tensor2D;
    (save as (tensors: tfjs.Tensor[]) => void)([z]);
    return {
      value: tf.sum(rowLosses(tf, z, terms), 1),
      gradFunc: (dy, saved) =>
        tf.mul(tf.expandDims(dy, 1), tf.sub(rowMeans(tf, saved[0] ?? z, terms), terms.clickShares)),
    };
  })(logits) as tfjs.Tensor1D;
}

/**
 * The same losses of flat rows: terms `[1, rowExtent]`, and for each row its task. Rows of a task are
 * added in their order.
 */
export function flatTaskLosses(
  { tf, kernels }: Engine,
  logits: tfjs.Tensor2D,
  terms: LossTerms,
  { taskOfPlace, taskCount }: { readonly taskOfPlace: tfjs.Tensor1D; readonly taskCount: number },
): tfjs.Tensor1D {
  return tf.customGrad((input, save) => {
    const z = input as tfjs.Tensor2D;
    (save as (tensors: tfjs.Tensor[]) => void)([z]);
    const column = tf.reshape<tfjs.Rank.R2>(rowLosses(tf, z, terms), [-1, 1]);
    return {
      value: tf.reshape(kernels.sumSegments(column, taskOfPlace, taskCount), [taskCount]),
      gradFunc: (dy, saved) => {
        const byRow = kernels.gatherRows(tf.reshape(dy, [taskCount, 1]), taskOfPlace);
        const slopes = tf.sub(rowMeans(tf, saved[0] ?? z, terms), terms.clickShares);
        return tf.mul(tf.reshape(byRow, z.shape), slopes);
      },
    };
  })(logits) as tfjs.Tensor1D;
}
