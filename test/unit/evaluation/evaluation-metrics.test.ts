/** Metrics on numbers small enough to work by hand. */

import { describe, expect, it } from 'vitest';
import {
  calibrationBins,
  calibrationError,
  calibrationRatio,
  lossSum,
  normalisedEntropy,
} from '../../../coordinator/scoring/metrics.js';
import { softplus } from '../../../shared/base/logistic.js';
import { gaucOf } from '../../../coordinator/scoring/score-arms.js';

const logit = (p: number): number => Math.log(p / (1 - p));

describe('logloss', () => {
  it('is -log p of the outcome, times its count', () => {
    // 3 clicks of 10 at p = 0.2: -3 ln 0.2 - 7 ln 0.8 = 4.828314 + 1.562005
    expect(lossSum([logit(0.2)], { clicks: [3], impressions: [10] })).toBeCloseTo(6.390319, 6);
  });

  it('stays finite and exact for extreme logits', () => {
    expect(lossSum([800], { clicks: [0], impressions: [1] })).toBe(800);
    expect(lossSum([-800], { clicks: [0], impressions: [1] })).toBe(0);
    expect(lossSum([-800], { clicks: [1], impressions: [1] })).toBe(800);
    expect(softplus(0)).toBeCloseTo(Math.LN2, 15);
  });
});

it('normalised entropy is 1 for the click rate itself and null with one class', () => {
  const rows = { clicks: [1, 0], impressions: [2, 2] };
  const perImpression = lossSum([logit(0.25), logit(0.25)], rows) / 4;
  // -0.25 ln 0.25 - 0.75 ln 0.75
  expect(perImpression).toBeCloseTo(0.5623351446188, 12);
  expect(normalisedEntropy(perImpression, rows)).toBeCloseTo(1, 12);
  expect(normalisedEntropy(0.5, { clicks: [0], impressions: [4] })).toBeNull();
});

it('GAUC is weighted by impressions within adgroups; those with one class are left out and counted', () => {
  const found = gaucOf([1, null, 0.5], Float64Array.of(30, 1000, 10));
  expect(found).toEqual({ gauc: (30 * 1 + 10 * 0.5) / 40, leftOutCount: 1 });
  expect(gaucOf([null], Float64Array.of(3))).toEqual({ gauc: null, leftOutCount: 1 });
});

describe('calibration', () => {
  it('is predicted clicks over actual clicks', () => {
    const rows = { clicks: [1, 1], impressions: [4, 4] };
    expect(calibrationRatio([logit(0.5), logit(0.25)], rows)).toBeCloseTo(1.5, 12);
    expect(calibrationRatio([0], { clicks: [0], impressions: [4] })).toBeNull();
  });

  it('bins hold equal impressions; a row on a boundary is divided in proportion', () => {
    // 8 impressions into 2 bins of 4: the second row gives 1 of its 3 to the first bin.
    const bins = calibrationBins(
      [logit(0.1), logit(0.4), logit(0.8)],
      {
        clicks: [1, 3, 1],
        impressions: [3, 3, 2],
      },
      2,
    );
    expect(bins.map((bin) => bin.impressions)).toEqual([4, 4]);
    expect(bins[0]?.meanPrediction).toBeCloseTo((3 * 0.1 + 0.4) / 4, 12);
    expect(bins[0]?.clickRate).toBeCloseTo((1 + 1) / 4, 12);
    expect(bins[1]?.meanPrediction).toBeCloseTo((2 * 0.4 + 2 * 0.8) / 4, 12);
    expect(bins[1]?.clickRate).toBeCloseTo((2 + 1) / 4, 12);
    // |0.175 - 0.5| and |0.6 - 0.75|, equally weighted
    expect(calibrationError(bins)).toBeCloseTo((0.325 + 0.15) / 2, 12);
  });
});
