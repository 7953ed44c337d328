/**
 * The level shift is one number per task, added to its logits after the inner steps: the posterior mode
 * under a normal prior whose deviation tau is learned in the outer loop (empirical Bayes),
 *
 *   s_i = argmin  n_i sum_r share_r (softplus(z_r + s) - y_r (z_r + s)) + s^2 / (2 tau^2)
 *
 * over the support rows r of task i with n_i impressions in all. The less evidence there is, the more
 * the shift shrinks; a task without support rows has none. It is found by Newton steps, which the outer
 * gradient runs through. For values, (z + s)^2 / 2 replaces softplus(z + s), and the shift is the
 * shrunken mean residual.
 *
 *
 * Values of features may have shifts of their own beside it, the posterior mode of an additive logit
 *
 *   level + sum_f u_f(x_f),    u_f(x) ~ N(0, tau_f^2) for each value x of feature f
 *
 * over the support rows, by backfitting (Buja, Hastie and Tibshirani, Annals of Statistics 1989): in turn
 * each feature's effects, and then the level, take one Newton step given all the others. With R and V
 * the sums of residuals and variances over the support rows of value x, an effect u moves by
 *
 *   (R - u / tau_f^2) / (V + 1 / tau_f^2)
 *
 * Values that the support rows do not have stay at 0.
 */

import type * as tfjs from '@tensorflow/tfjs';
import {
  LEVEL_DEVIATION,
  LOG_DEVIATION_SCALE,
  VALUE_DEVIATIONS,
} from '../../../shared/methods/inner-loop/inner-loop-settings.js';
import type { LevelShift } from '../../../shared/methods/inner-loop/inner-loop.js';
import { variableOf } from '../models/fields.js';
import { rowMeans, rowVariances, type Pass } from './passes.js';
import { at } from '../../../shared/base/arrays.js';
import { placeCountsOf } from '../models/device-tasks.js';

const NEWTON_STEP_COUNT = 8;
/** Bounds one step, since a logistic loss has hardly any curvature far from the mode. */
const NEWTON_STEP_LENGTH_MAX = 2;

/** Support rows under the blocks that a task has after its inner steps. */
export interface ShiftBasis {
  readonly support: Pass;
  /** `[taskCount, rowExtent]` */
  readonly logits: tfjs.Tensor2D;
  /** The weight of the support rows against the learned prior; 1 when absent. */
  readonly supportWeight?: tfjs.Scalar;
}

/** The shifts of a micro-batch of tasks. */
interface TaskShifts {
  /** `[taskCount, 1]` */
  readonly levels: tfjs.Tensor2D;
  /** By feature, the effect of each support row's value: `[taskCount, rowExtent]`. */
  readonly effects: readonly tfjs.Tensor2D[];
}

/** The shifts that the support rows give their tasks. */
export function shiftsFrom({ features }: LevelShift, basis: ShiftBasis): TaskShifts {
  const { support } = basis;
  const fit = levelFitOf(basis);
  const levels = levelsBy(fit, support);
  if (features.length === 0) return { levels, effects: [] };
  const own = effectsOn(support, support, features);
  const fitted = backfitted(fit, levels, precisionsOf(basis, VALUE_DEVIATIONS), [own]);
  return { levels: fitted, effects: own.values };
}

/** Logits of other rows of the same tasks, shifted. Without a shift or a basis they stay as they are. */
export function shiftedBy(
  shift: LevelShift | null,
  basis: ShiftBasis | null,
  rows: Pass,
  logits: tfjs.Tensor2D,
): tfjs.Tensor2D {
  if (shift === null || basis === null) return logits;
  const { support } = basis;
  const { tf } = support.job.engine;
  const { features } = shift;
  const fit = levelFitOf(basis);
  const levels = levelsBy(fit, support);
  if (features.length === 0) return tf.add(logits, levels);
  const precisions = precisionsOf(basis, VALUE_DEVIATIONS);
  const own = effectsOn(support, support, features);
  const theirs = effectsOn(rows, support, features);
  const fitted = backfitted(fit, levels, precisions, [own, theirs]);
  const shifts = theirs.values.reduce((sum, effect) => tf.add<tfjs.Tensor2D>(sum, effect), fitted);
  return tf.add(logits, shifts);
}

function levelFitOf(basis: ShiftBasis): LevelFit {
  const { support, logits } = basis;
  const { tf } = support.job.engine;
  const precision = precisionsOf(basis, LEVEL_DEVIATION);
  return {
    tf,
    evidenceAt: (shifts) => evidenceAt(support, tf.add(logits, shifts)),
    steppedLevels: (levels, evidence) => steppedLevels(tf, precision, levels, evidence),
  };
}

/** 1 / tau^2 of the learned deviations of a prior, `[count]`. */
function precisionsOf({ support, supportWeight }: ShiftBasis, name: string): tfjs.Tensor {
  const { job } = support;
  const { tf } = job.engine;
  const learned = tf.exp(tf.mul(variableOf(job.dense, name), -2 * LOG_DEVIATION_SCALE));
  return supportWeight === undefined ? learned : tf.div(learned, supportWeight);
}

/** The mode without effects of values, `[taskCount, 1]`. */
function levelsBy({ tf, evidenceAt, steppedLevels }: LevelFit, { job }: Pass): tfjs.Tensor2D {
  let levels = tf.zeros<tfjs.Rank.R2>([job.taskCount, 1]);
  for (let step = 0; step < NEWTON_STEP_COUNT; step += 1)
    levels = steppedLevels(levels, evidenceAt(levels));
  return levels;
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

/** The evidence of the support rows beyond given logits. */
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

/** Rounds of backfitting: effects of features whose values are spread over rows alike hardly interact. */
const SWEEP_COUNT = 3;

/** Evidence of support rows at given logits, `[taskCount, rowExtent]`; 0 where there is no row. */
interface SupportEvidence {
  /** Clicks beyond what is expected. */
  readonly residuals: tfjs.Tensor2D;
  readonly variances: tfjs.Tensor2D;
}

/** Fits levels beside given effects. */
interface LevelFit {
  readonly tf: typeof tfjs;
  /** @param shifts of the support rows, `[taskCount, 1 or rowExtent]`. */
  readonly evidenceAt: (shifts: tfjs.Tensor2D) => SupportEvidence;
  /** One Newton step of the levels, `[taskCount, 1]`. */
  readonly steppedLevels: (levels: tfjs.Tensor2D, evidence: SupportEvidence) => tfjs.Tensor2D;
}

/** Effects of the features' values on the rows of one pass, by feature. */
interface Effects {
  /** `[taskCount, rowExtent, supportRowExtent]`, 1 where a support row has the row's value. */
  readonly isSame: readonly tfjs.Tensor3D[];
  /** `[taskCount, rowExtent]`; backfitting replaces them. */
  readonly values: tfjs.Tensor2D[];
}

/** Effects of 0. */
function effectsOn(rows: Pass, support: Pass, features: readonly string[]): Effects {
  const { tf } = support.job.engine;
  const pairs = features.map((feature) => ({
    own: valuesOf(rows, feature),
    ofSupport: valuesOf(support, feature),
  }));
  return {
    isSame: pairs.map(({ own, ofSupport }) =>
      tf.cast(
        tf.equal<tfjs.Tensor3D>(tf.expandDims(own, 2), tf.expandDims(ofSupport, 1)),
        'float32',
      ),
    ),
    values: pairs.map(({ own }) => tf.zeros<tfjs.Rank.R2>(own.shape)),
  };
}

/**
 * Fits the effects and returns the levels beside them.
 *
 * @param start the levels without effects of values.
 * @param precisions 1 / tau^2 by feature, `[featureCount]`.
 * @param effects those of the support rows first, then those of other rows.
 */
function backfitted(
  { tf, evidenceAt, steppedLevels }: LevelFit,
  start: tfjs.Tensor2D,
  precisions: tfjs.Tensor,
  effects: readonly [Effects, ...Effects[]],
): tfjs.Tensor2D {
  const [ofSupport] = effects;
  const byFeature = [...ofSupport.values.keys()].map((feature) => tf.slice(precisions, feature, 1));
  let levels = start;
  const evidence = (): SupportEvidence =>
    evidenceAt(
      ofSupport.values.reduce((sum, values) => tf.add<tfjs.Tensor2D>(sum, values), levels),
    );
  for (let sweep = 0; sweep < SWEEP_COUNT; sweep += 1) {
    for (const [feature, precision] of byFeature.entries()) {
      const given = evidence();
      for (const { isSame, values } of effects)
        values[feature] = steppedEffects(
          tf,
          { isSame: at(isSame, feature), values: at(values, feature) },
          precision,
          given,
        );
    }
    levels = steppedLevels(levels, evidence());
  }
  return levels;
}

/** One Newton step given all else. */
function steppedEffects(
  tf: typeof tfjs,
  { isSame, values }: { readonly isSame: tfjs.Tensor3D; readonly values: tfjs.Tensor2D },
  precision: tfjs.Tensor,
  { residuals, variances }: SupportEvidence,
): tfjs.Tensor2D {
  const sum = (bySupportRow: tfjs.Tensor2D): tfjs.Tensor2D =>
    tf.reshape(tf.matMul(isSame, tf.expandDims<tfjs.Tensor3D>(bySupportRow, 2)), values.shape);
  const slope = tf.sub(sum(residuals), tf.mul(precision, values));
  return tf.add(values, tf.div(slope, tf.add(sum(variances), precision)));
}

/** Numbers that tell the values of a feature apart, `[taskCount, rowExtent]`. */
function valuesOf({ job, data }: Pass, feature: string): tfjs.Tensor2D {
  const { tf } = job.engine;
  const { categoryFeatures, tables } = job.spec;
  const { tablePlaces } = data;
  if (tablePlaces === undefined) throw new Error('the rows have no categories');
  const { taskCount, rowExtent, placeCount } = placeCountsOf(data);
  const all = tf.reshape<tfjs.Rank.R2>(tablePlaces, [placeCount, tables.length]);
  const column = tf.slice(all, [0, categoryFeatures.indexOf(feature)], [placeCount, 1]);
  return tf.reshape<tfjs.Rank.R2>(column, [taskCount, rowExtent]);
}
