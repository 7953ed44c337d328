/** Arrival order must not reach the sum: with cancelling extremes the order would show. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { aggregate, gradientInbox } from '../../coordinator/training/aggregator.js';
import type { MetaGradient } from '../../coordinator/training/meta-optimizer/meta-gradient.js';
import { deliveredOf, expectationsFor, layoutOf, tensorsOf } from '../fixtures/gradient-results.js';

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
const expectations = expectationsFor(
  Array.from({ length: JOB_COUNT }, (_, jobIndex) => layoutOf([3, 4 + jobIndex], [])),
);

function sumOf(values: readonly { w: number[]; rows: number[] }[], order: number[]): MetaGradient {
  const inbox = gradientInbox(expectations);
  for (const jobIndex of order) {
    const { w, rows } = values[jobIndex]!;
    const delivered = deliveredOf(jobIndex, tensorsOf(w, rows));
    expect(inbox.admit(delivered)).toBeNull();
    expect(inbox.admit(delivered)).toBe('duplicate');
  }
  return aggregate(inbox.gradients(), expectations);
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
