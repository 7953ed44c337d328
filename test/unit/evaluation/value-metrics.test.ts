/** Metrics of values on numbers small enough to work by hand, and changes that must not affect them. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TaskCounts } from '../../../coordinator/scoring/held-out-rows.js';
import {
  calibrationBins,
  calibrationRatio,
  lossSum,
} from '../../../coordinator/scoring/metrics.js';
import { ndcgOf, valueMetricsOf } from '../../../coordinator/scoring/score-arms.js';
import type { TaskLabel } from '../../../shared/tasks/task-label.js';

const label: TaskLabel = { loss: 'squared', segment: null, mean: 3, deviation: 1.5 };

/** One adgroup with these values. */
function rowsOf(values: readonly number[], weights = values.map(() => 1)): TaskCounts {
  return {
    label,
    starts: Int32Array.of(0, values.length),
    clicks: Float32Array.from(values, (value, row) => value * weights[row]!),
    impressions: Float32Array.from(weights),
  };
}

describe('metrics of values', () => {
  const rows = rowsOf([1, 2, 5], [1, 1, 2]);
  const predictions = Float32Array.of(2, 2, 4);

  it('are worked by hand', () => {
    // Errors 1, 0 and -1 twice; mean of the values 13/4, of their squares 55/4.
    expect(lossSum(predictions, rows)).toBe(3);
    const found = valueMetricsOf(predictions, rows, 5);
    expect(found.mae).toBeCloseTo(3 / 4, 12);
    expect(found.rmse).toBeCloseTo(Math.sqrt(3 / 4), 12);
    expect(found.rSquared).toBeCloseTo(1 - 3 / 4 / (55 / 4 - (13 / 4) ** 2), 12);
    expect(calibrationRatio(predictions, rows)).toBeCloseTo(12 / 13, 12);
    expect(calibrationBins(predictions, rows, 2)).toEqual([
      { impressions: 2, meanPrediction: 2, clickRate: 1.5 },
      { impressions: 2, meanPrediction: 4, clickRate: 5 },
    ]);
  });

  it('count a weight as repeated rows', () => {
    const row = fc.record({
      value: fc.integer({ min: -4, max: 4 }),
      predicted: fc.integer({ min: -4, max: 4 }),
      weight: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 8 }), (some) => {
        const all = some.flatMap((each) => Array.from({ length: each.weight }, () => each));
        const of = (list: typeof some, weights: number[]): number[] => {
          const predicted = Float32Array.from(list, (each) => each.predicted);
          const counts = rowsOf(
            list.map(({ value }) => value),
            weights,
          );
          const { mae, rmse, rSquared } = valueMetricsOf(predicted, counts, 5);
          return [lossSum(predicted, counts), mae, rmse, rSquared ?? NaN];
        };
        const few = of(
          some,
          some.map(({ weight }) => weight),
        );
        for (const [index, expected] of of(
          all,
          all.map(() => 1),
        ).entries())
          if (Number.isNaN(expected)) expect(few[index]).toBeNaN();
          else expect(few[index]).toBeCloseTo(expected, 9);
      }),
    );
  });
});

describe('nDCG', () => {
  it('is worked by hand', () => {
    // Gains 2^r - 1 of 1, 3, 2: 1, 7, 3. Predicted order 2, 1, 3: values 3, 1, 2.
    const gain = 7 / Math.log2(2) + 1 / Math.log2(3);
    const best = 7 / Math.log2(2) + 3 / Math.log2(3);
    expect(ndcgOf([2, 3, 1], [1, 3, 2], 2)).toBeCloseTo(gain / best, 12);
    expect(ndcgOf([2, 3, 1], [1, 3, 2], 5)).toBeCloseTo((gain + 3 / 2) / (best + 1 / 2), 12);
  });

  it('is 1 for the right order, less for another, and the expectation for ties', () => {
    expect(ndcgOf([5, 4, 3], [3, 2, 1], 3)).toBeCloseTo(1, 12);
    const forth = ndcgOf([2, 1], [4, 1], 1)!;
    const back = ndcgOf([1, 2], [4, 1], 1)!;
    expect(back).toBeLessThan(forth);
    expect(ndcgOf([1, 1], [4, 1], 1)).toBeCloseTo((forth + back) / 2, 12);
  });

  it('has no value without a gain or with a value below 0, and stays finite for large ones', () => {
    expect(ndcgOf([1, 2], [0, 0], 5)).toBeNull();
    expect(ndcgOf([1, 2], [-1, 3], 5)).toBeNull();
    expect(ndcgOf([2, 1], [5000, 4], 5)).toBeCloseTo(1, 12);
  });
});
