/** Means of outer steps in bounded memory, in worked numbers and for any values. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { StepMeans } from '../../../coordinator/record/run-history.js';

function meansOf(values: readonly number[], spansMax: number): StepMeans {
  const means = new StepMeans(spansMax);
  for (const [index, y] of values.entries()) means.add(index + 1, { y: [y, 1] });
  return means;
}

it('keeps every step while they are few, and means of neighbours when they are many', () => {
  expect(meansOf([3, 1, 2], 4).points('y')).toEqual([
    { x: 1, y: 3 },
    { x: 2, y: 1 },
    { x: 3, y: 2 },
  ]);
  // The fifth step makes spans of two.
  expect(meansOf([3, 1, 2, 4, 7, 9], 4).points('y')).toEqual([
    { x: 2, y: 2 },
    { x: 4, y: 3 },
    { x: 6, y: 8 },
  ]);
});

it('is bounded, and its means weighed by their steps are that of all steps', () => {
  // Seen to fail: without the weights of united spans.
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 300 }),
      (values) => {
        const { spans } = meansOf(values, 8);
        expect(spans.length).toBeLessThanOrEqual(8);
        const pairs = spans.map(({ sums }) => sums.get('y') ?? [0, 0]);
        expect(pairs.reduce((sum, [each]) => sum + each, 0)).toBe(
          values.reduce((a, b) => a + b, 0),
        );
        expect(pairs.reduce((sum, [, weight]) => sum + weight, 0)).toBe(values.length);
        expect(spans.at(-1)?.lastOuterStep).toBe(values.length);
      },
    ),
  );
});
