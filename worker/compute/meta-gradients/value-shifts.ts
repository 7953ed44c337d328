/**
 * Shifts by value of a feature: how a task's rows of one value depart from its level. With r and v the
 * support rows' residuals at that level and their variances, and tau_f the learned deviation of the
 * values of feature f, a row whose value is x is shifted by
 *
 *   sum_f  R / (1 / tau_f^2 + V)      R = sum of r, V = sum of v over support rows of value x
 *
 * the posterior mode of each value's effect by itself after one Newton step, hence 0 for values that
 * the support rows do not have.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { placeCountsOf } from '../models/batch-tensors.js';
import type { Pass } from './passes.js';

/** Of support rows at their task's level, `[taskCount, rowExtent]`; 0 where there is no row. */
export interface SupportEvidence {
  /** Clicks beyond what is expected. */
  readonly residuals: tfjs.Tensor2D;
  readonly variances: tfjs.Tensor2D;
}

/**
 * `[taskCount, rowExtent]` of `rows`.
 *
 * @param precisions 1 / tau^2 by feature, `[features.length]`.
 */
export function valueShifts(
  support: Pass,
  rows: Pass,
  features: readonly string[],
  { residuals, variances }: SupportEvidence,
  precisions: tfjs.Tensor,
): tfjs.Tensor2D {
  const { tf } = support.job.engine;
  const { taskCount, rowExtent } = placeCountsOf(rows.data);
  const featureCount = features.length;
  const ofRows = tf.expandDims(valuesOf(rows, features), 2);
  const ofSupport = tf.expandDims(valuesOf(support, features), 1);
  /** `[featureCount * taskCount, rowExtent, supportRowExtent]` */
  const isSame = tf.cast(tf.equal<tfjs.Tensor3D>(ofRows, ofSupport), 'float32');
  const sums = (byRow: tfjs.Tensor2D): tfjs.Tensor => {
    const column: tfjs.Tensor3D = tf.expandDims(byRow, 2);
    const columns = featureCount === 1 ? column : tf.concat(features.map(() => column));
    return tf.reshape(tf.matMul(isSame, columns), [featureCount, taskCount, rowExtent]);
  };
  const prior = tf.reshape(precisions, [featureCount, 1, 1]);
  return tf.sum(tf.div(sums(residuals), tf.add(sums(variances), prior)), 0);
}

/** What tells the values of a feature apart, `[featureCount * taskCount, rowExtent]`, by feature. */
function valuesOf({ job, data }: Pass, features: readonly string[]): tfjs.Tensor2D {
  const { tf } = job.engine;
  const { categoryFeatures, tables } = job.spec;
  const { tablePlaces } = data;
  if (tablePlaces === undefined) throw new Error('the rows have no categories');
  const { taskCount, rowExtent, placeCount } = placeCountsOf(data);
  const all = tf.reshape<tfjs.Rank.R2>(tablePlaces, [placeCount, tables.length]);
  const parts = features.map((feature) => {
    const column = tf.slice(all, [0, categoryFeatures.indexOf(feature)], [placeCount, 1]);
    return tf.reshape<tfjs.Rank.R2>(column, [taskCount, rowExtent]);
  });
  const [first] = parts;
  return parts.length === 1 && first !== undefined ? first : tf.concat(parts, 0);
}
