/** The expected probability of a click, against the integral over a fine grid, and the way back from it. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sigmoid } from '../../../shared/base/logistic.js';
import { momentsOfModerated } from '../../../shared/methods/inner-loop/moderated-logit.js';
import { moderatedLogit } from '../../fixtures/moderated-logit.js';

const STEPS_PER_DEVIATION = 200;

function integrated(mean: number, variance: number): { rate: number; square: number } {
  let [rate, square, total] = [0, 0, 0];
  for (let step = -8 * STEPS_PER_DEVIATION; step <= 8 * STEPS_PER_DEVIATION; step += 1) {
    const node = step / STEPS_PER_DEVIATION;
    const weight = Math.exp(-(node ** 2) / 2);
    const p = sigmoid(mean + Math.sqrt(variance) * node);
    rate += weight * p;
    square += weight * p * p;
    total += weight;
  }
  return { rate: rate / total, square: square / total };
}

test.each([
  [0.25, 1e-4],
  [1, 2e-4],
  [2, 1e-3],
  [4, 5e-3],
])('with a variance of %s the probability is right to %s of it', (variance, errorShareMax) => {
  for (let mean = -9; mean <= 3; mean += 0.25) {
    const { rate } = integrated(mean, variance);
    const error = sigmoid(moderatedLogit(mean, variance)) / rate - 1;
    expect(Math.abs(error)).toBeLessThan(errorShareMax);
  }
});

test('without a variance a logit is its own, and moderation is odd', () => {
  expect(moderatedLogit(-4, 0)).toBeCloseTo(-4, 12);
  // A click rate of 2.8 %, where MacKay's logit says 3.3 %.
  expect(sigmoid(moderatedLogit(-4, 1))).toBeCloseTo(0.0281, 4);
  expect(moderatedLogit(4, 1)).toBeCloseTo(-moderatedLogit(-4, 1), 12);
  // Far out the odds are log-normal: half the variance is added.
  expect(moderatedLogit(-300, 1)).toBeCloseTo(-299.5, 3);
});

test('moments are found again from the moderated logit', () => {
  const logits = fc.double({ min: -9, max: 9, noNaN: true });
  const variances = fc.double({ min: 0, max: 3, noNaN: true });
  fc.assert(
    fc.property(logits, variances, (mean, variance) => {
      const found = momentsOfModerated(moderatedLogit(mean, variance), variance);
      const expected = integrated(mean, variance);
      expect(found.rate / expected.rate).toBeCloseTo(1, 2);
      expect(found.square / expected.square).toBeCloseTo(1, 1);
    }),
    { numRuns: 50 },
  );
});
