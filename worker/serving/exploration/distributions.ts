/** The Beta distribution that policies draw from and integrate, in float64. */

import { float64At } from '../../../shared/base/arrays.js';
import type { RandomStream } from '../../../shared/base/random.js';

/** Lanczos coefficients for g = 7 (Godfrey, 2001); relative error below 1e-14. */
const LANCZOS = Float64Array.of(
  0.99999999999980993,
  676.5203681218851,
  -1259.1392167224028,
  771.32342877765313,
  -176.61502916214059,
  12.507343278686905,
  -0.13857109526572012,
  9.9843695780195716e-6,
  1.5056327351493116e-7,
);
const LANCZOS_G = 7;
const FRACTION_TERMS_MAX = 10_000;
const FRACTION_TOLERANCE = 1e-14;
const SMALLEST = 1e-300;

/** Parameters of a Beta distribution, both positive. */
export interface Beta {
  readonly a: number;
  readonly b: number;
}

/** log Gamma(x) for x > 0. */
export function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const shifted = x - 1;
  let sum = float64At(LANCZOS, 0);
  for (let term = 1; term < LANCZOS.length; term += 1)
    sum += float64At(LANCZOS, term) / (shifted + term);
  const height = shifted + LANCZOS_G + 0.5;
  return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(height) - height + Math.log(sum);
}

export function logBeta({ a, b }: Beta): number {
  return logGamma(a) + logGamma(b) - logGamma(a + b);
}

/**
 * The probability that a draw is at most `x`: the regularised incomplete beta function, by its continued
 * fraction (modified Lentz), on the side where that converges fast.
 *
 * @param logNorm `logBeta` of the distribution, for callers that ask often
 */
export function betaCdf(x: number, { a, b }: Beta, logNorm = logBeta({ a, b })): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logNorm);
  return x < (a + 1) / (a + b + 2)
    ? (front * betaFraction(x, a, b)) / a
    : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

function betaFraction(x: number, a: number, b: number): number {
  const apart = (value: number): number => (Math.abs(value) < SMALLEST ? SMALLEST : value);
  let c = 1;
  let d = 1 / apart(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= FRACTION_TERMS_MAX; m += 1) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / apart(1 + even * d);
    c = apart(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / apart(1 + odd * d);
    c = apart(1 + odd / c);
    fraction *= d * c;
    if (Math.abs(d * c - 1) < FRACTION_TOLERANCE) return fraction;
  }
  throw new Error(`the incomplete beta function did not converge at ${x}, ${a}, ${b}`);
}

/** A draw from Beta(a, b), as a ratio of Gamma draws. */
export function betaDraw({ a, b }: Beta, stream: RandomStream): number {
  if (a >= 1 && b >= 1) {
    const first = gammaDraw(a, stream);
    return first / (first + gammaDraw(b, stream));
  }
  const first = logGammaDraw(a, stream);
  const second = logGammaDraw(b, stream);
  // In logarithms, because Gamma draws of a small shape underflow.
  return 1 / (1 + Math.exp(second - first));
}

/** The logarithm of a draw from Gamma(shape, 1), for every shape. */
function logGammaDraw(shape: number, stream: RandomStream): number {
  if (shape >= 1) return Math.log(gammaDraw(shape, stream));
  return Math.log(gammaDraw(shape + 1, stream)) + Math.log(1 - stream.uniform()) / shape;
}

/** A draw from Gamma(shape, 1) with a shape of at least 1: Marsaglia and Tsang (2000). */
function gammaDraw(shape: number, stream: RandomStream): number {
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = stream.normal();
    const root = 1 + c * x;
    if (root <= 0) continue;
    const v = root * root * root;
    const u = 1 - stream.uniform();
    const squared = x * x;
    if (u < 1 - 0.0331 * squared * squared) return d * v;
    if (Math.log(u) < 0.5 * squared + d * (1 - v + Math.log(v))) return d * v;
  }
}
