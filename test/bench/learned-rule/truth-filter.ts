/**
 * The best possible results on a drifting world: the true probabilities, and a filter that knows
 * the spread and drift speed of every slot's weights (but not the hidden classes), and learns row
 * by row with a diagonal covariance. Both are limits, not competitors.
 */

import {
  DRIFTING_SLOTS,
  type DriftingStream,
  type DriftingStreamSettings,
} from '../../fixtures/drifting-stream.js';
import { loglossOf, rowCountOf } from '../../../shared/streaming/stream-rows.js';
import { sigmoid } from '../../../shared/base/logistic.js';

/** The base logit of the worlds; the filter would learn it within a few thousand rows. */
const BASE_LOGIT = -2.4;

export function truthLoglosses(
  stream: DriftingStream,
  world: DriftingStreamSettings,
  judgedFrom: number,
): Record<string, number> {
  const { rows, trueLogits } = stream;
  const rowCount = rowCountOf(rows);
  let oracle = 0;
  let filter = 0;
  const logits = filterLogits(stream, world);
  for (let row = judgedFrom; row < rowCount; row += 1) {
    const click = rows.clicks[row] ?? 0;
    oracle += loglossOf(trueLogits[row] ?? 0, click);
    filter += loglossOf(logits[row] ?? 0, click);
  }
  const judged = rowCount - judgedFrom;
  return { 'true probabilities': oracle / judged, 'filter that knows the drift': filter / judged };
}

/** A Kalman filter on the linearised row: gain `P / (1 + p (1 - p) sum P)`. */
function filterLogits({ rows }: DriftingStream, { drift }: DriftingStreamSettings): Float64Array {
  const weights = new Float64Array(rows.featureCount);
  const variances = new Float64Array(rows.featureCount);
  const times = new Float64Array(rows.featureCount).fill(-1);
  const logits = new Float64Array(rowCountOf(rows));
  for (let row = 0; row < logits.length; row += 1) {
    const time = rows.times[row]!;
    const touched = rows.features.subarray(rows.rowStarts[row], rows.rowStarts[row + 1]);
    let logit = BASE_LOGIT;
    let variance = 0;
    for (const feature of touched) {
      const { deviation, timeConstantDays } = DRIFTING_SLOTS[rows.slotOfFeature[feature]!]!;
      const age = times[feature]! < 0 ? Infinity : time - times[feature]!;
      const kept = age === Infinity ? 0 : Math.exp((-age * drift) / timeConstantDays);
      weights[feature]! *= kept;
      variances[feature] = kept ** 2 * variances[feature]! + deviation ** 2 * (1 - kept ** 2);
      times[feature] = time;
      logit += weights[feature]!;
      variance += variances[feature];
    }
    logits[row] = logit;
    const probability = sigmoid(logit);
    const information = probability * (1 - probability);
    const shrink = 1 + information * variance;
    for (const feature of touched) {
      const own = variances[feature]!;
      weights[feature]! += (own / shrink) * (rows.clicks[row]! - probability);
      variances[feature] = own - (own ** 2 * information) / shrink;
    }
  }
  return logits;
}
