/**
 * Whether probabilities are right while serving: what came of the impressions that feedback reported, against what was
 * predicted of them, from the metrics of a server.
 */

import type { MetricName } from '../../../shared/metrics/metric-definitions.js';
import type { MetricWindow } from './metric-window.js';

interface Calibration {
  /** The first digits of its digest. */
  readonly bundle: string;
  readonly segment: string;
  readonly impressions: number;
  /** The sum of probabilities. */
  readonly predicted: number;
  readonly observed: number;
  /** Observed over predicted, with an interval of 95 %; null where nothing was predicted. */
  readonly ratio: { readonly value: number; readonly low: number; readonly high: number } | null;
}

interface Sums {
  readonly impressions: number;
  readonly predicted: number;
  readonly variance: number;
  readonly observed: number;
}

/** Standard deviations of the normal distribution on each side of 95 %. */
const NORMAL_95 = 1.959964;

/** Sums by bundle and segment, if they have impressions or outcomes in the window. */
export function calibrationsIn(window: MetricWindow): Calibration[] {
  return window.labelsOf('qianmo_predicted_outcomes_total').flatMap((labels) => {
    const { bundle = '', segment = '' } = labels;
    const counted = (name: MetricName): number => window.counted(name, { bundle, segment });
    const sums = {
      impressions: counted('qianmo_feedback_impressions_total'),
      predicted: counted('qianmo_predicted_outcomes_total'),
      variance: counted('qianmo_predicted_outcome_variance_total'),
      observed: counted('qianmo_observed_outcomes_total'),
    };
    return sums.impressions === 0 && sums.observed === 0
      ? []
      : [{ bundle, segment, ...sums, ratio: ratioOf(sums) }];
  });
}

/**
 * The variance is that of independent outcomes with the predicted probabilities, so that 1 lies outside the interval
 * exactly where the difference is more than 1.96 standard deviations.
 */
function ratioOf({ predicted, variance, observed }: Sums): Calibration['ratio'] {
  if (predicted <= 0) return null;
  const reach = NORMAL_95 * Math.sqrt(Math.max(0, variance));
  return {
    value: observed / predicted,
    low: Math.max(0, observed - reach) / predicted,
    high: (observed + reach) / predicted,
  };
}
