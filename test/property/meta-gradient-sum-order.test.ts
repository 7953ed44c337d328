/**
 * Arrival order must not affect the sum. With cancelling extremes, the order would show. The memory of an output is
 * written to as soon as the sum gives it back, which would show as well.
 * Seen to fail: a sum that gives an output back when it arrives, and one that gives it back before its rows are added.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MetaGradientSum } from '../../coordinator/training/meta-gradient-sum.js';
import { gradientReader } from '../../coordinator/training/gradients/job-gradient.js';
import type { MetaGradient } from '../../coordinator/training/meta-optimizer/meta-gradient.js';
import { deliveredOf, shapesFor, layoutOf, tensorsOf } from '../fixtures/gradient-results.js';

const JOB_COUNT = 6;
// 3e38 - 3e38 + 1 is 1 and 3e38 + 1 - 3e38 is 0, in float64 too.
const extreme = fc.constantFrom(3e38, -3e38, 1, -1, 1e-3, 1e20, -1e20);
const jobValues = fc.array(
  fc.tuple(extreme, extreme, extreme, extreme).map(([a, b, c, d]) => ({ w: [a, b], rows: [c, d] })),
  { minLength: JOB_COUNT, maxLength: JOB_COUNT },
);
const arrival = fc.shuffledSubarray(
  Array.from({ length: JOB_COUNT }, (_, jobIndex) => jobIndex),
  { minLength: JOB_COUNT },
);

/** Every job touches row 3 of `colour` and one more. */
const shapes = shapesFor(
  Array.from({ length: JOB_COUNT }, (_, jobIndex) => layoutOf([3, 4 + jobIndex], [])),
);

const read = gradientReader(shapes);

/** One sum for all steps, as in a run: nothing of an earlier step may remain in it. */
const sum = new MetaGradientSum(shapes.spec);

function sumOf(values: readonly { w: number[]; rows: number[] }[], order: number[]): MetaGradient {
  const released: number[] = [];
  sum.begin(shapes.layouts);
  for (const jobIndex of order) {
    const { w, rows } = values[jobIndex]!;
    const delivered = deliveredOf(jobIndex, tensorsOf(w, rows));
    const release = (): void => {
      delivered.output.fill(255);
      released.push(jobIndex);
    };
    const gradient = read({ ...delivered, release });
    if (typeof gradient === 'string') throw new Error(`refused: ${gradient}`);
    sum.add(gradient);
  }
  expect(released).toEqual(Array.from({ length: JOB_COUNT }, (_, jobIndex) => jobIndex));
  return structuredClone(sum.metaGradient());
}

describe('the meta-gradient', () => {
  it('is the same bit for bit in any order of arrival', () => {
    const inOrder = Array.from({ length: JOB_COUNT }, (_, jobIndex) => jobIndex);
    fc.assert(
      fc.property(jobValues, arrival, (values, order) => {
        expect(sumOf(values, order)).toEqual(sumOf(values, inOrder));
      }),
      { seed: 20, numRuns: 300 },
    );
  });
});
