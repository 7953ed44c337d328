/** The bounded series of a run: the points that it keeps, in worked numbers and for any values. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  PointSeries,
  POINTS_MAX,
  StepTimes,
  TIMED_SPANS_MAX,
} from '../../../coordinator/record/history/step-series.js';

function seriesOf(values: readonly number[]): PointSeries {
  const series = new PointSeries();
  for (const [index, y] of values.entries()) series.add(index + 1, y);
  return series;
}

describe('a series of points', () => {
  it('keeps every point while they are few', () => {
    expect(seriesOf([3, 1, 2]).points()).toEqual([
      { x: 1, y: 3 },
      { x: 2, y: 1 },
      { x: 3, y: 2 },
    ]);
  });

  it('keeps the least and the greatest of each span when they are many', () => {
    // The 1,000th point makes spans of 2, the 1,999th (999 * 2 + 1) spans of 4.
    const values = Array.from({ length: 3_000 }, (_, index) => (index % 4 === 1 ? 9 : index % 4));
    values[2_345] = -50;
    const points = seriesOf(values).points();
    expect(points.length).toBeLessThanOrEqual(POINTS_MAX);
    expect(points).toContainEqual({ x: 2_346, y: -50 });
    // Steps 5 to 8 have the values 0, 9, 2, 3.
    expect(points.filter(({ x }) => x >= 5 && x <= 8)).toEqual([
      { x: 5, y: 0 },
      { x: 6, y: 9 },
    ]);
  });

  it('has ends, extremes and order of any values', () => {
    const value = fc.double({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 9_000, size: 'max' }), (values) => {
        const points = seriesOf(values).points();
        const ys = points.map(({ y }) => y);
        expect(points.length).toBeLessThanOrEqual(POINTS_MAX);
        expect(points.at(0)).toEqual({ x: 1, y: values[0] });
        expect(points.at(-1)).toEqual({ x: values.length, y: values.at(-1) });
        expect(values.reduce((a, b) => Math.min(a, b))).toBe(ys.reduce((a, b) => Math.min(a, b)));
        expect(values.reduce((a, b) => Math.max(a, b))).toBe(ys.reduce((a, b) => Math.max(a, b)));
        for (const [index, { x, y }] of points.entries()) {
          expect(x).toBeGreaterThan(points[index - 1]?.x ?? 0);
          expect(y).toBe(values[x - 1]);
        }
      }),
      { numRuns: 20 },
    );
  });

  it('leaves out values that are not finite', () => {
    expect(seriesOf([1, NaN, Infinity, 2]).points()).toEqual([
      { x: 1, y: 1 },
      { x: 4, y: 2 },
    ]);
  });

  it('forgets the steps that a resumed run repeats', () => {
    const series = seriesOf([5, 4, 3, 2]);
    series.forgetAfter(2);
    series.add(3, 30);
    expect(series.points()).toEqual([
      { x: 1, y: 5 },
      { x: 2, y: 4 },
      { x: 3, y: 30 },
    ]);
  });
});

describe('the times of outer steps', () => {
  it('become means of spans when they are many', () => {
    const times = new StepTimes();
    for (let step = 1; step <= 2 * TIMED_SPANS_MAX; step += 1)
      times.add(step, {
        compute: step % 2 === 1 ? 10 : 30,
        ...(step === 2 ? { checkpoint: 8 } : {}),
      });
    const spans = times.spans();
    expect(spans.length).toBe(TIMED_SPANS_MAX);
    const [first] = spans;
    // Steps 1 and 2: (10 + 30) / 2, and one checkpoint of 8 ms in two steps.
    expect(first).toMatchObject({ firstOuterStep: 1, lastOuterStep: 2, stepCount: 2 });
    expect([...(first?.meanMsByPhase ?? [])]).toEqual([
      ['compute', 20],
      ['checkpoint', 4],
    ]);
  });
});
