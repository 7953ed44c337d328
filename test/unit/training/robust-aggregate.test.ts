/** The median and the trimmed mean of job gradients: worked numbers, and what false gradients cannot do. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import { RobustAggregate } from '../../../coordinator/training/robust-aggregate.js';
import { gradientReader } from '../../../coordinator/training/gradients/job-gradient.js';
import type { GradientAggregate } from '../../../coordinator/training/gradient-aggregate.js';
import type { RobustAggregation } from '../../../shared/config/training-config.js';
import { deliveredOf, layoutOf, shapesFor, tensorsOf } from '../../fixtures/gradient-results.js';

const MEDIAN: RobustAggregation = { kind: 'median' };

interface JobValues {
  readonly w: readonly number[];
  readonly rows: readonly number[];
}

/** @param order of arrival */
function aggregate(
  aggregation: RobustAggregation | 'sum',
  {
    jobs,
    ids,
    weights,
  }: {
    readonly jobs: readonly JobValues[];
    readonly ids: readonly (readonly number[])[];
    readonly weights: readonly number[];
  },
  order = jobs.map((_, jobIndex) => jobIndex),
) {
  const shapes = shapesFor(ids.map((ofJob) => layoutOf([...ofJob], [])));
  const read = gradientReader(shapes);
  const sut: GradientAggregate =
    aggregation === 'sum'
      ? new MetaGradientSum(shapes.spec)
      : new RobustAggregate(shapes.spec, aggregation);
  sut.begin(shapes.layouts, weights);
  for (const jobIndex of order) {
    const { w, rows } = jobs[jobIndex]!;
    const gradient = read(deliveredOf(jobIndex, tensorsOf([...w], [...rows])));
    if (typeof gradient === 'string') throw new Error(`refused: ${gradient}`);
    sut.add(gradient);
  }
  const { dense, rows } = sut.metaGradient();
  const colour = rows.get('colour');
  return {
    w: [...(dense.get('w')?.values ?? [])],
    ids: [...(colour?.ids ?? [])],
    colour: [...(colour?.values ?? [])],
    losses: sut.losses,
  };
}

describe('a robust aggregate', () => {
  // Means of the jobs, g_j / w_j: w 1 and -4, 2 and 8, 12 and 2. Row 5 is touched by jobs 0 and 2, row 7 by job 2.
  const three = {
    weights: [0.5, 0.25, 0.25],
    ids: [[5], [], [5, 7]],
    jobs: [
      { w: [0.5, -2], rows: [1] },
      { w: [0.5, 2], rows: [] },
      { w: [3, 0.5], rows: [4, 8] },
    ],
  };

  it('is the median of the means, times the weight of the jobs that have a value', () => {
    expect(aggregate(MEDIAN, three)).toEqual({
      w: [2, 2],
      ids: [5, 7],
      // Row 5: means 2 and 16, median 9, weight 0.75. Row 7: mean 32, weight 0.25.
      colour: [6.75, 8],
      losses: {
        ...{ bySize: null, queryLoss: 1.5, queryLossBefore: null },
        supportLoss: expect.closeTo(1.8) as number,
      },
    });
  });

  it('is the mean without the largest and smallest', () => {
    // A third of three is left out at either end, and of two none.
    const trimmed = aggregate({ kind: 'trimmed-mean', share: 0.34 }, three);
    expect(trimmed).toMatchObject({ w: [2, 2], colour: [6.75, 8] });
    // Nothing is left out: means of 1, 2, 12 and of -4, 8, 2.
    const whole = aggregate({ kind: 'trimmed-mean', share: 0 }, three);
    expect(whole).toMatchObject({ w: [5, 2], colour: [6.75, 8] });
  });

  it('does not count a job whose tasks have no weight', () => {
    const jobs = [
      { w: [0, 0], rows: [] },
      { w: [3, 1], rows: [] },
    ];
    const { w } = aggregate(MEDIAN, { jobs, ids: [[], []], weights: [0, 1] });
    expect(w).toEqual([3, 1]);
  });

  it('takes the jobs that are left for all where a step closes without others', () => {
    const shapes = shapesFor(three.ids.map((ofJob) => layoutOf([...ofJob], [])));
    const sut = new RobustAggregate(shapes.spec, MEDIAN);
    sut.begin(shapes.layouts, three.weights);
    const gradient = gradientReader(shapes)(deliveredOf(0, tensorsOf([0.5, -2], [1])));
    if (typeof gradient === 'string') throw new Error(`refused: ${gradient}`);
    sut.add(gradient);
    expect(sut.missingJobs()).toEqual([1, 2]);
    sut.closeWithoutMissing(0.5);
    const { dense, rows } = sut.metaGradient();
    // The mean of job 0, with all the weight.
    expect([...(dense.get('w')?.values ?? [])]).toEqual([1, -4]);
    expect([...(rows.get('colour')?.values ?? [])]).toEqual([2]);
    expect(sut.losses.queryLoss).toBe(1);
  });

  it('needs a gradient of each job', () => {
    expect(() => aggregate(MEDIAN, three, [0, 2])).toThrow(/each of 3 jobs/);
  });

  const value = fc.double({ min: -1e3, max: 1e3, noNaN: true });
  const JOB_COUNT = 5;
  const ids = Array.from({ length: JOB_COUNT }, () => [3]);
  const weights = ids.map(() => 1 / JOB_COUNT);
  const jobsOf = (values: readonly number[]): JobValues[] =>
    values.map((each) => ({ w: [each, -each], rows: [each] }));
  const fiveValues = fc.array(value, { minLength: JOB_COUNT, maxLength: JOB_COUNT });

  // Seen to fail: means that are not sorted, and a trimmed mean that leaves out at one end only.
  it('stays within the honest values while fewer than half of the jobs are false', () => {
    const aggregations: RobustAggregation[] = [MEDIAN, { kind: 'trimmed-mean', share: 0.4 }];
    fc.assert(
      fc.property(
        fiveValues,
        fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 2, maxLength: 2 }),
        fc.constantFrom(1e30, -1e30),
        (honest, liars, lie) => {
          const given = honest.map((each, jobIndex) => (liars.includes(jobIndex) ? lie : each));
          const sound = honest.filter((_, jobIndex) => !liars.includes(jobIndex));
          for (const aggregation of aggregations) {
            const { w, colour } = aggregate(aggregation, { jobs: jobsOf(given), ids, weights });
            for (const found of [w[0] ?? NaN, colour[0] ?? NaN]) {
              // Each job has a fifth of the weight, so its mean is five times its gradient.
              expect(found / JOB_COUNT).toBeGreaterThanOrEqual(Math.min(...sound) - 1e-3);
              expect(found / JOB_COUNT).toBeLessThanOrEqual(Math.max(...sound) + 1e-3);
            }
          }
        },
      ),
      { seed: 3, numRuns: 200 },
    );
  });

  it('has the same bits in any order of arrival', () => {
    const order = fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: JOB_COUNT });
    fc.assert(
      fc.property(fiveValues, order, (values, arrival) => {
        const given = { jobs: jobsOf(values), ids, weights };
        const mean: RobustAggregation = { kind: 'trimmed-mean', share: 0.2 };
        for (const aggregation of [MEDIAN, mean])
          expect(aggregate(aggregation, given, arrival)).toEqual(aggregate(aggregation, given));
      }),
      { seed: 4, numRuns: 100 },
    );
  });

  it('equals the sum where all jobs agree', () => {
    const given = { jobs: jobsOf([2, 2, 2, 2, 2]), ids, weights };
    expect(aggregate(MEDIAN, given).w).toEqual(aggregate('sum', given).w);
  });
});
