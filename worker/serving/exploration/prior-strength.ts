/** Strength of the prior: one readable number, the probability that a new adgroup beats the best one. */

import { betaCdf } from './distributions.js';

const STRENGTH_MIN = 1e-2;
const SCAN_STEPS = 60;
const BISECTIONS = 60;

/** P(theta > rate) where theta has the prior Beta(strength p, strength (1 - p)). */
export function chanceToBeat(rate: number, probability: number, strength: number): number {
  if (rate <= 0) return 1;
  if (rate >= 1) return 0;
  return 1 - betaCdf(rate, { a: strength * probability, b: strength * (1 - probability) });
}

/**
 * The strongest prior around `probability` under which a new adgroup beats an incumbent of this rate with
 * probability `share`. The chance falls with growing strength from its largest value on. If even that is
 * below `share`, the prior with the largest chance is returned. A probability above the rate needs no
 * exploration: its prior has the greatest strength.
 */
export function strengthForShare(
  share: number,
  probability: number,
  rate: number,
  strengthMax: number,
): number {
  if (probability >= rate || probability <= 0) return strengthMax;
  const chance = (logStrength: number): number =>
    chanceToBeat(rate, probability, Math.exp(logStrength));
  const highest = Math.log(strengthMax);
  if (chance(highest) >= share) return strengthMax;
  const lowest = Math.log(STRENGTH_MIN);
  const step = (highest - lowest) / SCAN_STEPS;
  let [inside, largest] = [lowest, -1];
  for (let point = SCAN_STEPS; point >= 0; point -= 1) {
    const logStrength = lowest + point * step;
    const found = chance(logStrength);
    if (found > largest) [inside, largest] = [logStrength, found];
    if (found >= share) break;
  }
  if (largest < share) return Math.exp(inside);
  let outside = inside + step;
  for (let bisection = 0; bisection < BISECTIONS; bisection += 1) {
    const middle = (inside + outside) / 2;
    if (chance(middle) >= share) inside = middle;
    else outside = middle;
  }
  return Math.exp(inside);
}
