/**
 * The level shift: one number per task, added to its logits after the inner steps. The posterior mode
 * under a normal prior whose deviation tau is learned in the outer loop (empirical Bayes),
 *
 *   s_i = argmin  n_i sum_r share_r (softplus(z_r + s) - y_r (z_r + s)) + s^2 / (2 tau^2)
 *
 * over the support rows r of task i with n_i impressions in all: evidence shrinks it, a task without
 * support rows has none. Found by Newton steps, which the outer gradient runs through. Of values, with
 * (z + s)^2 / 2 in the place of softplus(z + s), it is the shrunken mean residual.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { LEVEL_SHIFT_LOG_DEVIATION, type InnerLoop } from '../../../shared/methods/method.js';
import { variableOf } from '../models/fields.js';
import { rowMeans, rowVariances } from '../models/lean-operations.js';
import type { Pass } from './passes.js';

const NEWTON_STEP_COUNT = 8;
/** Of one step: far from the mode the curvature of a logistic loss says too little. */
const NEWTON_STEP_LENGTH_MAX = 2;

/**
 * Shifts `[taskCount, 1]`.
 *
 * @param supportLogits `[taskCount, rowExtent]` of the support rows after the inner steps.
 */
function levelShifts(support: Pass, supportLogits: tfjs.Tensor2D): tfjs.Tensor2D {
  const { tf } = support.job.engine;
  const { clickShares, totals } = support.data;
  if (totals === undefined) throw new Error('a level shift needs the totals of the support rows');
  const { taskCount } = support.job;
  const count = tf.reshape<tfjs.Rank.R2>(totals.impressions, [taskCount, 1]);
  const logDeviation = variableOf(support.job.dense, LEVEL_SHIFT_LOG_DEVIATION);
  const precision = tf.exp(tf.mul(logDeviation, -2));
  const clicks = tf.mul(count, tf.sum(clickShares, 1, true));
  let shift = tf.zeros<tfjs.Rank.R2>([taskCount, 1]);
  for (let step = 0; step < NEWTON_STEP_COUNT; step += 1) {
    const shifted = tf.add(supportLogits, shift);
    const expected = rowMeans(tf, shifted, support.data);
    const clicksExpected = tf.mul(count, tf.sum(expected, 1, true));
    const variances = rowVariances(tf, shifted, support.data);
    const variance = tf.mul(count, tf.sum(variances, 1, true));
    const slope = tf.add(tf.sub(clicksExpected, clicks), tf.mul(precision, shift));
    const length = tf.div(slope, tf.add(variance, precision));
    shift = tf.sub(shift, tf.clipByValue(length, -NEWTON_STEP_LENGTH_MAX, NEWTON_STEP_LENGTH_MAX));
  }
  return shift;
}

/** Logits of other rows of the same tasks, shifted where the loop wants it and evidence is there. */
export function shiftedBy(
  { levelShift }: InnerLoop,
  support: Pass | null,
  supportLogits: tfjs.Tensor2D | null,
  logits: tfjs.Tensor2D,
): tfjs.Tensor2D {
  if (!levelShift || support === null || supportLogits === null) return logits;
  return support.job.engine.tf.add(logits, levelShifts(support, supportLogits));
}
