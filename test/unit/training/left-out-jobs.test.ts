/** The sum of an outer step that is closed without some of its jobs. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import { gradientReader, type JobGradient } from '../../../coordinator/training/job-gradient.js';
import {
  deliveredOf,
  layoutOf,
  shapesFor,
  tensorsOf,
  twoTableSpec,
} from '../../fixtures/gradient-results.js';

/** Ids of both tables and a value of each gradient element, by job. */
const ids = fc.uniqueArray(fc.nat(12), { maxLength: 5 }).map((all) => all.sort((a, b) => a - b));
const value = fc.float({ min: -1000, max: 1000, noNaN: true });
const job = fc.record({ colour: ids, shape: ids }).chain(({ colour, shape }) =>
  fc.record({
    colour: fc.constant(colour),
    shape: fc.constant(shape),
    dense: fc.tuple(value, value),
    rows: fc.array(value, {
      minLength: colour.length + shape.length,
      maxLength: colour.length + shape.length,
    }),
    isLeftOut: fc.boolean(),
  }),
);
const step = fc
  .array(job, { minLength: 1, maxLength: 6 })
  .filter((jobs) => jobs.some(({ isLeftOut }) => !isLeftOut));

interface TestJob {
  readonly colour: readonly number[];
  readonly shape: readonly number[];
  readonly dense: readonly number[];
  readonly rows: readonly number[];
  readonly isLeftOut: boolean;
}

function gradientsOf(jobs: readonly TestJob[]): {
  readonly shapes: ReturnType<typeof shapesFor>;
  readonly gradients: JobGradient[];
} {
  const shapes = shapesFor(jobs.map(({ colour, shape }) => layoutOf(colour, shape)));
  const read = gradientReader(shapes);
  const gradients = jobs.map(({ dense, rows }, jobIndex) => {
    const gradient = read(deliveredOf(jobIndex, tensorsOf([...dense], rows)));
    if (typeof gradient === 'string') throw new Error(gradient);
    return gradient;
  });
  return { shapes, gradients };
}

function bitsOf(sum: MetaGradientSum): unknown {
  const { dense, rows } = sum.metaGradient();
  return {
    dense: [...dense].map(([name, { values }]) => [name, [...values]]),
    rows: [...rows].map(([name, { ids, values }]) => [name, [...ids], [...values]]),
    losses: sum.losses,
  };
}

it('is that of the other jobs alone, whatever arrives when, divided by their share', () => {
  fc.assert(
    fc.property(step, fc.constantFrom(1, 0.5, 0.25), fc.nat(), (jobs, share, seed) => {
      const whole = gradientsOf(jobs);
      const closed = new MetaGradientSum(twoTableSpec);
      closed.begin(whole.shapes.layouts);
      const arriving = whole.gradients.filter((_, jobIndex) => jobs[jobIndex]?.isLeftOut === false);
      const first = seed % arriving.length;
      for (const gradient of [...arriving.slice(first), ...arriving.slice(0, first)])
        closed.add(gradient);
      expect(closed.missingJobs()).toEqual(
        jobs.flatMap(({ isLeftOut }, jobIndex) => (isLeftOut ? [jobIndex] : [])),
      );
      closed.closeWithoutMissing(share);

      const others = gradientsOf(jobs.filter(({ isLeftOut }) => !isLeftOut));
      const alone = new MetaGradientSum(twoTableSpec);
      alone.begin(others.shapes.layouts);
      for (const gradient of others.gradients) alone.add(gradient);
      alone.closeWithoutMissing(share);
      expect(bitsOf(closed)).toEqual(bitsOf(alone));
    }),
  );
});

it('is divided in float64, before it is rounded', () => {
  const sum = new MetaGradientSum(twoTableSpec);
  const { shapes, gradients } = gradientsOf([
    { colour: [2, 5], shape: [], dense: [1, 2], rows: [10, 20], isLeftOut: false },
    { colour: [3, 5], shape: [1], dense: [7, 7], rows: [7, 7, 7], isLeftOut: true },
  ]);
  sum.begin(shapes.layouts);
  sum.add(gradients[0]!);
  sum.closeWithoutMissing(0.5);
  const { dense, rows } = sum.metaGradient();
  expect([...(dense.get('w')?.values ?? [])]).toEqual([2, 4]);
  // Rows 3 of colour and 1 of shape are touched by the missing job alone.
  expect([...(rows.get('colour')?.ids ?? [])]).toEqual([2, 5]);
  expect([...(rows.get('colour')?.values ?? [])]).toEqual([20, 40]);
  expect([...(rows.get('shape')?.ids ?? [])]).toEqual([]);
});
