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
import { at } from '../../../shared/base/arrays.js';
import { placeCountsOf } from '../models/device-tasks.js';
import type { Pass } from './passes.js';

/** Rounds of backfitting: effects of features whose values are spread over rows alike hardly interact. */
const SWEEP_COUNT = 3;

/** Evidence of support rows at given logits, `[taskCount, rowExtent]`; 0 where there is no row. */
export interface SupportEvidence {
  /** Clicks beyond what is expected. */
  readonly residuals: tfjs.Tensor2D;
  readonly variances: tfjs.Tensor2D;
}

/** Fits levels beside given effects. */
export interface LevelFit {
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
export function effectsOn(rows: Pass, support: Pass, features: readonly string[]): Effects {
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
export function backfitted(
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
