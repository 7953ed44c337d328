/** Features of a task from the sums over its support rows, scaled to about 1. */

import type * as tfjs from '@tensorflow/tfjs';
import { QianmoError } from '../../base/errors.js';
import { labelVariances, type AdaptingTasks } from './inner-loop.js';
import type { ModelShape } from './method.js';
import { at, float32At } from '../../base/arrays.js';
import type { NamedTensors } from '../../tensors/named-tensors.js';

/** Clicks and impressions that the smoothed click rate begins with. */
const SMOOTHING = { clicks: 1, impressions: 10 };

/** Size and level. */
export const SUPPORT_FEATURE_COUNT = 2;
/** `supportFeatures` of a task without support rows. */
export const NO_SUPPORT_FEATURES = [-1, 0];

/**
 * `[taskCount, 2]`: half the logarithm of the impressions, less 1; and half that of the smoothed odds
 * of a click over what they begin with, or of values their mean, shrunk alike: 0 without support.
 */
export function supportFeatures(tasks: AdaptingTasks): tfjs.Tensor2D {
  const { tf, taskCount } = tasks;
  const { impressions, clicks, isOfValues } = tasks.supportTotals();
  const size = tf.sub(tf.div(tf.log1p(impressions), 2), 1);
  const ofClicks = (x: tfjs.Tensor): tfjs.Tensor =>
    isOfValues === undefined ? x : tf.mul(x, tf.sub(1, isOfValues));
  // Values may be negative: their odds mean nothing, and must not be computed.
  const counted = ofClicks(clicks);
  const initialOdds = SMOOTHING.clicks / (SMOOTHING.impressions - SMOOTHING.clicks);
  const odds = tf.div(
    tf.add(counted, SMOOTHING.clicks),
    tf.add(tf.sub(impressions, counted), SMOOTHING.impressions - SMOOTHING.clicks),
  );
  let level = ofClicks(tf.div(tf.log(tf.div(odds, initialOdds)), 2));
  if (isOfValues !== undefined)
    level = tf.add(
      level,
      tf.mul(isOfValues, tf.div(clicks, tf.add(impressions, SMOOTHING.impressions))),
    );
  return tf.concat(
    [size, level].map((x) => tf.reshape<tfjs.Rank.R2>(x, [taskCount, 1])),
    1,
  );
}

/**
 * Shares of each support row in a sum over its task of (label - level) / deviation of a label,
 * `[taskCount, rowExtent]`: what the labels say beyond their level, in one unit for clicks and values.
 */
export function standardisedShares(
  tasks: AdaptingTasks,
  shares: { readonly impressionShares: tfjs.Tensor2D; readonly clickShares: tfjs.Tensor2D },
): tfjs.Tensor2D {
  const { tf } = tasks;
  const totals = tasks.supportTotals();
  const { impressions, clicks, isOfValues } = totals;
  const before = isOfValues === undefined ? 1 : tf.sub(1, isOfValues);
  const levels = tf.div(
    tf.add(clicks, tf.mul(before, SMOOTHING.clicks)),
    tf.add(impressions, SMOOTHING.impressions),
  );
  const deviations = tf.sqrt(labelVariances(tf, totals, SMOOTHING));
  const beyond = tf.sub(
    shares.clickShares,
    tf.mul(shares.impressionShares, tf.expandDims(levels, 1)),
  );
  return tf.div(beyond, tf.expandDims(deviations, 1));
}

/** Names of a model's features in the order of its fields, which is that of the forward pass. */
export function featureNamesOf(model: ModelShape): string[] {
  return [
    ...model.categoryFeatures,
    ...model.bagFeatures.map(({ name }) => name),
    ...model.numberFeatures,
  ];
}

/** @param where the setting that names the features. */
export function requireFeatures(model: ModelShape, names: readonly string[], where: string): void {
  const known = featureNamesOf(model);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new QianmoError({
      kind: 'usage',
      what: 'a method reads a feature that is not there',
      where,
      expected: `some of ${known.join(', ')}`,
      found: unknown,
      cure: 'name features of the task store',
    });
}

/**
 * The product of a row vector and a variable `[rows, columns]`, of which it reads the last rows if it is shorter.
 *
 * @param constant names the variable that is added; null for none.
 */
export function timesVariable(
  vector: ArrayLike<number>,
  dense: NamedTensors,
  name: string,
  constant: string | null = null,
): Float64Array {
  const { shape, values } = variableNamed(dense, name);
  const [rowCount, columnCount] = [at(shape, 0), at(shape, 1)];
  const sums = new Float64Array(columnCount);
  if (constant !== null) sums.set(variableNamed(dense, constant).values);
  for (let index = 0; index < vector.length; index += 1) {
    const first = (rowCount - vector.length + index) * columnCount;
    for (let column = 0; column < columnCount; column += 1)
      sums[column] = at(sums, column) + at(vector, index) * float32At(values, first + column);
  }
  return sums;
}

export function variableNamed(
  dense: NamedTensors,
  name: string,
): NonNullable<ReturnType<NamedTensors['get']>> {
  const found = dense.get(name);
  if (found === undefined) throw new Error(`no variable ${name}`);
  return found;
}
