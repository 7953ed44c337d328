/**
 * Shifts by value of features beside a task's level: the posterior mode of an additive logit
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
import { placeCountsOf } from '../models/batch-tensors.js';
import type { Pass } from './passes.js';

/** Rounds of backfitting: effects of features whose values are spread over rows alike hardly interact. */
const SWEEP_COUNT = 3;

/** Of support rows at given logits, `[taskCount, rowExtent]`; 0 where there is no row. */
export interface SupportEvidence {
  /** Clicks beyond what is expected. */
  readonly residuals: tfjs.Tensor2D;
  readonly variances: tfjs.Tensor2D;
}

export interface AdditiveShifts {
  readonly features: readonly string[];
  /** 1 / tau^2 by feature, `[features.length]`. */
  readonly precisions: tfjs.Tensor;
  /** `[taskCount, 1]`, the mode without effects of values. */
  readonly levels: tfjs.Tensor2D;
  readonly evidenceAt: (shifts: tfjs.Tensor2D) => SupportEvidence;
  readonly steppedLevels: (levels: tfjs.Tensor2D, evidence: SupportEvidence) => tfjs.Tensor2D;
}

/** Effects of one feature's values, as rows of one pass have them. */
interface Effects {
  /** `[taskCount, rowExtent, supportRowExtent]`, 1 where a support row has the row's value. */
  readonly isSame: tfjs.Tensor3D;
  /** `[taskCount, rowExtent]` */
  values: tfjs.Tensor2D;
}

/** Level and effects of values together, `[taskCount, rowExtent]` of `rows`. */
export function additiveShifts(support: Pass, rows: Pass, shifts: AdditiveShifts): tfjs.Tensor2D {
  const { tf } = support.job.engine;
  const byFeature = shifts.features.map((feature, at) => {
    const own = valuesOf(support, feature);
    return {
      precision: tf.slice(shifts.precisions, at, 1),
      ofSupport: effectsOf(tf, own, own),
      ofRows: effectsOf(tf, valuesOf(rows, feature), own),
    };
  });
  let { levels } = shifts;
  const sumOf = (effects: readonly Effects[]): tfjs.Tensor2D =>
    effects.reduce((sum, { values }) => tf.add<tfjs.Tensor2D>(sum, values), levels);
  const evidence = (): SupportEvidence =>
    shifts.evidenceAt(sumOf(byFeature.map(({ ofSupport }) => ofSupport)));
  for (let sweep = 0; sweep < SWEEP_COUNT; sweep += 1) {
    for (const { precision, ofSupport, ofRows } of byFeature) {
      const given = evidence();
      for (const effects of [ofSupport, ofRows])
        effects.values = steppedEffects(tf, effects, precision, given);
    }
    levels = shifts.steppedLevels(levels, evidence());
  }
  return sumOf(byFeature.map(({ ofRows }) => ofRows));
}

/** @param values and `supportValues` tell values apart, `[taskCount, rowExtent]`. */
function effectsOf(tf: typeof tfjs, values: tfjs.Tensor2D, supportValues: tfjs.Tensor2D): Effects {
  const isSame = tf.equal<tfjs.Tensor3D>(tf.expandDims(values, 2), tf.expandDims(supportValues, 1));
  return { isSame: tf.cast(isSame, 'float32'), values: tf.zeros(values.shape) };
}

/** One Newton step given all else. */
function steppedEffects(
  tf: typeof tfjs,
  { isSame, values }: Effects,
  precision: tfjs.Tensor,
  { residuals, variances }: SupportEvidence,
): tfjs.Tensor2D {
  const sum = (bySupportRow: tfjs.Tensor2D): tfjs.Tensor2D =>
    tf.reshape(tf.matMul(isSame, tf.expandDims<tfjs.Tensor3D>(bySupportRow, 2)), values.shape);
  const slope = tf.sub(sum(residuals), tf.mul(precision, values));
  return tf.add(values, tf.div(slope, tf.add(sum(variances), precision)));
}

/** What tells the values of a feature apart, `[taskCount, rowExtent]`. */
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
