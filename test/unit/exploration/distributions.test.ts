/** Distributions against closed forms, and draws against their distribution. */

import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { betaCdf, betaDraw, logGamma } from '../../../worker/serving/exploration/policies.js';

describe('the Beta distribution', () => {
  it('has logarithms of factorials', () => {
    expect(logGamma(1)).toBeCloseTo(0, 13);
    expect(logGamma(5)).toBeCloseTo(Math.log(24), 12);
    // Gamma(1/2) = sqrt(pi)
    expect(logGamma(0.5)).toBeCloseTo(Math.log(Math.PI) / 2, 13);
    expect(logGamma(0.25)).toBeCloseTo(Math.log(3.625609908221908), 12);
  });

  it.each([
    // Beta(1, n): 1 - (1 - x)^n
    [0.02, 1, 99, 1 - 0.98 ** 99],
    // Beta(a, 1): x^a
    [0.3, 0.5, 1, Math.sqrt(0.3)],
    // Beta(2, 3): 6 x^2 - 8 x^3 + 3 x^4
    [0.4, 2, 3, 6 * 0.16 - 8 * 0.064 + 3 * 0.0256],
    // Symmetric at a half
    [0.5, 7000, 7000, 0.5],
    // The arcsine law: (2 / pi) asin(sqrt(x))
    [0.1, 0.5, 0.5, (2 / Math.PI) * Math.asin(Math.sqrt(0.1))],
  ])('below %f of Beta(%f, %f)', (x, a, b, expected) => {
    expect(betaCdf(x, { a, b })).toBeCloseTo(expected, 10);
  });

  it.each([
    [0.2, 9],
    [4, 4],
    [30, 970],
  ])('draws from Beta(%f, %f) lie below each point as often as they should', (a, b) => {
    const stream = randomStream(3, 'draws', a, b);
    const drawCount = 20_000;
    const draws = Array.from({ length: drawCount }, () => betaDraw({ a, b }, stream));
    for (const x of [0.01, 0.03, 0.1, 0.5]) {
      const expected = betaCdf(x, { a, b });
      const share = draws.filter((draw) => draw < x).length / drawCount;
      // Four standard errors.
      expect(Math.abs(share - expected)).toBeLessThan(
        4 * Math.sqrt((expected * (1 - expected)) / drawCount) + 1e-9,
      );
    }
  });
});
