/**
 * The level shift: one number per task, added to its logits after the inner steps. The posterior mode
 * under a normal prior whose deviation tau is learned in the outer loop (empirical Bayes),
 *
 *   s_i = argmin  n_i sum_r share_r (softplus(z_r + s) - y_r (z_r + s)) + s^2 / (2 tau^2)
 *
 * over the support rows r of task i with n_i impressions in all: evidence shrinks it, a task without
 * support rows has none. Found by Newton steps, which the outer gradient runs through. Of values, with
 * (z + s)^2 / 2 in the place of softplus(z + s), it is the shrunken mean residual.
 *
 * Values of features may have a shift each beside it: `shifts-by-value.ts`.
 */

import type * as tfjs from '@tensorflow/tfjs';
import {
  LEVEL_DEVIATION,
  LOG_DEVIATION_SCALE,
  VALUE_DEVIATIONS,
  levelShiftOf,
} from '../../../shared/methods/inner-loop/level-shift-settings.js';
import type { InnerLoop } from '../../../shared/methods/inner-loop/method.js';
import { variableOf } from '../models/fields.js';
import { rowMeans, rowVariances } from '../models/lean-operations.js';
import type { Pass } from './passes.js';
import { additiveShifts, type SupportEvidence } from './shifts-by-value.js';

const NEWTON_STEP_COUNT = 8;
/** Of one step: far from the mode the curvature of a logistic loss says too little. */
const NEWTON_STEP_LENGTH_MAX = 2;

/**
 * Logits of other rows of the same tasks, shifted where the loop wants it and evidence is there.
 *
 * @param priorScale a factor of the learned variances; 1 when absent.
 */
export function shiftedBy(
  loop: InnerLoop,
  support: Pass | null,
  supportLogits: tfjs.Tensor2D | null,
  rows: Pass,
  logits: tfjs.Tensor2D,
  priorScale?: tfjs.Scalar,
): tfjs.Tensor2D {
  const settings = levelShiftOf(loop);
  if (settings === null || support === null || supportLogits === null) return logits;
  const { tf } = support.job.engine;
  const { features } = settings;
  const precision = precisionsOf(support, LEVEL_DEVIATION, priorScale);
  const levels = levelShifts(support, supportLogits, precision);
  if (features.length === 0) return tf.add(logits, levels);
  const shifts = additiveShifts(support, rows, {
    ...{ features, levels },
    precisions: precisionsOf(support, VALUE_DEVIATIONS, priorScale),
    evidenceAt: (by) => evidenceAt(support, tf.add(supportLogits, by)),
    steppedLevels: (from, evidence) => steppedLevels(tf, precision, from, evidence),
  });
  return tf.add(logits, shifts);
}

/** 1 / tau^2 of the learned deviations of a prior, `[count]`. */
function precisionsOf({ job }: Pass, name: string, priorScale?: tfjs.Scalar): tfjs.Tensor {
  const { tf } = job.engine;
  const learned = tf.exp(tf.mul(variableOf(job.dense, name), -2 * LOG_DEVIATION_SCALE));
  return priorScale === undefined ? learned : tf.div(learned, priorScale);
}

/**
 * Shifts `[taskCount, 1]`.
 *
 * @param supportLogits `[taskCount, rowExtent]` of the support rows after the inner steps.
 */
function levelShifts(
  support: Pass,
  supportLogits: tfjs.Tensor2D,
  precision: tfjs.Tensor,
): tfjs.Tensor2D {
  const { tf } = support.job.engine;
  let shift = tf.zeros<tfjs.Rank.R2>([support.job.taskCount, 1]);
  for (let step = 0; step < NEWTON_STEP_COUNT; step += 1) {
    shift = steppedLevels(tf, precision, shift, evidenceAt(support, tf.add(supportLogits, shift)));
  }
  return shift;
}

/** One Newton step. */
function steppedLevels(
  tf: typeof tfjs,
  precision: tfjs.Tensor,
  levels: tfjs.Tensor2D,
  { residuals, variances }: SupportEvidence,
): tfjs.Tensor2D {
  const variance = tf.sum(variances, 1, true);
  const slope = tf.sub(tf.mul(precision, levels), tf.sum(residuals, 1, true));
  const length = tf.div(slope, tf.add(variance, precision));
  return tf.sub(levels, tf.clipByValue(length, -NEWTON_STEP_LENGTH_MAX, NEWTON_STEP_LENGTH_MAX));
}

/** What the support rows say beyond given logits. */
function evidenceAt(support: Pass, supportLogits: tfjs.Tensor2D): SupportEvidence {
  const { tf } = support.job.engine;
  const { clickShares, totals } = support.data;
  if (totals === undefined) throw new Error('a level shift needs the totals of the support rows');
  const count = tf.reshape<tfjs.Rank.R2>(totals.impressions, [support.job.taskCount, 1]);
  const expected = rowMeans(tf, supportLogits, support.data);
  return {
    residuals: tf.mul(count, tf.sub(clickShares, expected)),
    variances: tf.mul(count, rowVariances(tf, supportLogits, support.data)),
  };
}
