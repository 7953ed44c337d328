/**
 * The features of an adgroup's evidence that methods read beside its rows, as TensorFlow computes them for training
 * (`shared/methods/inner-loop/support-features.ts`).
 */

import { float64At } from '../../../shared/base/arrays.js';
import { SMOOTHING } from '../../../shared/methods/inner-loop/support-features.js';
import type { LabelledRows } from './support-evidence.js';

export interface TaskEvidence {
  readonly impressions: number;
  readonly size: number;
  readonly level: number;
  /** The variance of a label, in units of its loss. */
  readonly variance: number;
  /** Each row's share of the impressions, `[rowCount]`. */
  readonly impressionShares: Float64Array;
  /** Each row's share of what the labels say beyond their level, in standard deviations, `[rowCount]`. */
  readonly standardisedShares: Float64Array;
}

export function taskEvidenceOf({ loss, ...rows }: LabelledRows): TaskEvidence {
  const impressions = sumOf(rows.impressions);
  const clicks = sumOf(rows.clicks);
  const isOfClicks = loss === 'binary';
  const rate = (clicks + SMOOTHING.clicks) / (impressions + SMOOTHING.impressions);
  const mean = clicks / (impressions + SMOOTHING.impressions);
  const variance = isOfClicks ? rate * (1 - rate) : 1;
  const shareOf = (count: number): number => (impressions === 0 ? 0 : count / impressions);
  const impressionShares = rows.impressions.map(shareOf);
  const expected = isOfClicks ? rate : mean;
  const standardisedShares = rows.clicks.map(
    (count, row) =>
      (shareOf(count) - float64At(impressionShares, row) * expected) / Math.sqrt(variance),
  );
  return {
    ...{ impressions, variance, impressionShares, standardisedShares },
    size: Math.log1p(impressions) / 2 - 1,
    level: isOfClicks ? levelOfClicks(clicks, impressions) : mean,
  };
}

/** Half the logarithm of the smoothed odds of a click over those before any evidence. */
function levelOfClicks(clicks: number, impressions: number): number {
  const initialOdds = SMOOTHING.clicks / (SMOOTHING.impressions - SMOOTHING.clicks);
  const others = impressions - clicks + SMOOTHING.impressions - SMOOTHING.clicks;
  return Math.log((clicks + SMOOTHING.clicks) / others / initialOdds) / 2;
}

function sumOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
