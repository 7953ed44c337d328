/** Seeded random numbers and failure reports. */

import { describe, expect, it } from 'vitest';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';

const DRAW_COUNT = 100_000;
const drawn = (draw: (stream: RandomStream) => number): number[] => {
  const stream = randomStream(11, 'statistics');
  return Array.from({ length: DRAW_COUNT }, () => draw(stream));
};
const mean = (values: number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;

describe('randomStream', () => {
  it('gives the values recorded here on every machine', () => {
    // The values come from an implementation of xoshiro128** in another language.
    const stream = randomStream(1, 'worked', 2);
    const words = [stream.uint32(), stream.uint32(), stream.uint32()];
    expect(words).toEqual([877740041, 3302040441, 3637210540]);
    expect(stream.uniform()).toBe(0.44312163265646276);
    expect(stream.normal()).toBeCloseTo(-1.244443522938255, 14);
  });

  it('depends on the seed, on every part of the purpose and their order, and not on other streams', () => {
    const firstOf = (seed: number, ...purpose: (string | number)[]): number =>
      randomStream(seed, ...purpose).uint32();
    const names: [number, ...(string | number)[]][] = [
      [1, 'a', 'b'],
      [2, 'a', 'b'],
      [1, 'b', 'a'],
      [1, 'ab'],
      [1, 'a', 'b', ''],
      [1, 'a', 1],
      [1, 'a', '1'],
    ];
    expect(new Set(names.map((name) => firstOf(...name))).size).toBe(names.length);
    const [one, other] = [randomStream(5, 'x'), randomStream(5, 'x')];
    one.normal();
    randomStream(5, 'y').uint32();
    expect(other.uint32()).toBe(firstOf(5, 'x'));
  });

  it('normal: mean 0, variance 1, no skew, kurtosis 3, neighbours uncorrelated', () => {
    const values = drawn((stream) => stream.normal());
    const moment = (power: number): number => mean(values.map((v) => v ** power));
    expect(Math.abs(moment(1))).toBeLessThan(5 / Math.sqrt(DRAW_COUNT));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / DRAW_COUNT));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / DRAW_COUNT));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / DRAW_COUNT));
    const products = values.slice(1).map((v, index) => v * (values[index] ?? 0));
    expect(Math.abs(mean(products))).toBeLessThan(5 / Math.sqrt(DRAW_COUNT));
  });

  it('below: every value of a small range is equally frequent (chi-square)', () => {
    const counts = new Array<number>(7).fill(0);
    for (const v of drawn((stream) => stream.below(7))) counts[v] = (counts[v] ?? 0) + 1;
    const expected = DRAW_COUNT / 7;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(counts).toHaveLength(7);
    // The 0.999 quantile with 6 degrees of freedom.
    expect(chiSquare).toBeLessThan(22.5);
  });
});
