/** The bootstrap and the empirical-Bayes shift against known properties. */

import { describe, expect, it } from 'vitest';
import { bootstrapIntervals, lossSum } from '../../coordinator/scoring/metrics.js';
import { mapShift } from '../../coordinator/evaluation/arms.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';
import { randomStream } from '../../shared/base/random.js';

describe('bootstrap over adgroups', () => {
  const mean = (sums: Float64Array): number => (sums[0] ?? 0) / (sums[1] ?? 1);
  const intervalOf = (values: Float64Array, seed: number, samples = 400) =>
    bootstrapIntervals([values, new Float64Array(values.length).fill(1)], [mean], {
      samples,
      confidence: 0.95,
      stream: randomStream(seed, 'bootstrap test'),
    })[0];

  it('is the same for the same seed and differs for another', () => {
    const values = Float64Array.from({ length: 50 }, (_, index) => Math.sin(index));
    expect(intervalOf(values, 1)).toEqual(intervalOf(values, 1));
    expect(intervalOf(values, 1)).not.toEqual(intervalOf(values, 2));
  });

  it('has the width of the normal interval for a mean', () => {
    const stream = randomStream(5, 'normal values');
    const values = Float64Array.from({ length: 400 }, () => stream.normal());
    const found = intervalOf(values, 3, 4000);
    if (found === null || found === undefined) throw new Error('no interval');
    const average = values.reduce((sum, v) => sum + v, 0) / values.length;
    const deviation = Math.sqrt(
      values.reduce((sum, v) => sum + (v - average) ** 2, 0) / values.length,
    );
    const halfWidth = (1.959964 * deviation) / Math.sqrt(values.length);
    expect(found.value).toBeCloseTo(average, 12);
    expect(Math.abs(found.low - (average - halfWidth))).toBeLessThan(0.1 * halfWidth);
    expect(Math.abs(found.high - (average + halfWidth))).toBeLessThan(0.1 * halfWidth);
  });

  it('covers the truth about as often as stated', () => {
    let covered = 0;
    const worlds = 400;
    for (let world = 0; world < worlds; world += 1) {
      const stream = randomStream(world, 'world');
      const found = intervalOf(
        Float64Array.from({ length: 80 }, () => 0.3 + stream.normal()),
        world,
      );
      if (found && found.low <= 0.3 && 0.3 <= found.high) covered += 1;
    }
    // 95 % is stated. Three standard errors over 400 trials are 3.3 %, and percentile intervals are
    // slightly narrow.
    expect(covered / worlds).toBeGreaterThan(0.9);
    expect(covered / worlds).toBeLessThan(0.985);
  });

  it('pairs the arms: a constant difference has an interval of zero width', () => {
    const stream = randomStream(9, 'arm');
    const arm = Float64Array.from({ length: 30 }, () => stream.normal());
    const [found] = bootstrapIntervals(
      [arm.map((v) => v + 0.25), arm, new Float64Array(30).fill(1)],
      [([a = 0, b = 0, n = 1]) => a / n - b / n],
      { samples: 200, confidence: 0.9, stream: randomStream(1, 'paired') },
    );
    expect(found?.low).toBeCloseTo(0.25, 12);
    expect(found?.high).toBeCloseTo(0.25, 12);
  });

  it('gives null for a statistic that is not finite', () => {
    const columns = [Float64Array.of(1, 2)];
    const settings = { samples: 100, confidence: 0.9, stream: randomStream(1, 'x') };
    expect(bootstrapIntervals(columns, [() => NaN], settings)).toEqual([null]);
  });
});

describe('empirical-Bayes shift', () => {
  const rows = { clicks: [3, 0, 5], impressions: [10, 4, 6] };
  const logits = [-1, 0.5, 0.2];

  it('with a flat prior and one score equals the log odds of the click rate', () => {
    const shift = mapShift([0.7], { clicks: [3], impressions: [10] }, { mean: 0, deviation: 1e6 });
    expect(shift).toBeCloseTo(Math.log(3 / 7) - 0.7, 9);
  });

  it('with a sharp prior, or without rows, equals the prior mean', () => {
    expect(mapShift(logits, rows, { mean: 0.4, deviation: 1e-6 })).toBeCloseTo(0.4, 9);
    expect(mapShift([], { clicks: [], impressions: [] }, { mean: -0.3, deviation: 2 })).toBe(-0.3);
  });

  it.each([
    { mean: 0, deviation: 0.5 },
    { mean: -0.4, deviation: 2 },
    { mean: 0.3, deviation: 0.1 },
  ])('is where a fine grid finds the least penalised loss: %o', (prior) => {
    const objective = (s: number): number =>
      lossSum(
        logits.map((z) => z + s),
        rows,
      ) +
      (s - prior.mean) ** 2 / (2 * prior.deviation ** 2);
    let best = -3;
    for (let s = -3; s <= 3; s += 1e-4) if (objective(s) < objective(best)) best = s;
    expect(Math.abs(mapShift(logits, rows, prior) - best)).toBeLessThan(1e-4);
  });

  describe('of values', () => {
    const label: TaskLabel = { loss: 'squared', segment: null, mean: 3, deviation: 1.5 };
    // Values 4, 1 and 5, with weights 1, 2 and 1.
    const values = { label, clicks: [4, 2, 5], impressions: [1, 2, 1] };
    const predicted = [3, 2.5, 3.5];

    it('is the mean residual after shrinkage: worked numbers', () => {
      // Residuals 1, -1.5 (twice) and 1.5 sum to -0.5; precision 4: (0.2 * 1.5 * 4 - 0.5) / (4 +
      // 4).
      const shift = mapShift(predicted, values, { mean: 0.2, deviation: 0.5 });
      expect(shift).toBeCloseTo((1.2 - 0.5) / 8, 12);
      expect(mapShift(predicted, values, { mean: 0, deviation: 1e6 })).toBeCloseTo(-0.5 / 4, 9);
      expect(
        mapShift([], { ...values, clicks: [], impressions: [] }, { mean: 1, deviation: 2 }),
      ).toBe(1.5);
    });

    it.each([
      { mean: 0, deviation: 0.5 },
      { mean: -0.4, deviation: 2 },
    ])('is where a fine grid finds the least penalised error: %o', (prior) => {
      // Errors and shift are in standard deviations, as the prior is.
      const objective = (s: number): number =>
        lossSum(
          predicted.map((z) => z + s),
          values,
        ) /
          (2 * 1.5 ** 2) +
        (s / 1.5 - prior.mean) ** 2 / (2 * prior.deviation ** 2);
      let best = -3;
      for (let s = -3; s <= 3; s += 1e-4) if (objective(s) < objective(best)) best = s;
      expect(Math.abs(mapShift(predicted, values, prior) - best)).toBeLessThan(1e-4);
    });
  });

  it('is found from far away: every row clicked, with logits far below', () => {
    const prior = { mean: 0, deviation: 10 };
    const far = { clicks: [1e6], impressions: [1e6] };
    const shift = mapShift([-40], far, prior);
    // Stationary: impressions * (1 - sigmoid) = shift / deviation^2.
    const slope = shift / 100 - 1e6 / (1 + Math.exp(-40 + shift));
    expect(Math.abs(slope)).toBeLessThan(1e-6);
  });
});
