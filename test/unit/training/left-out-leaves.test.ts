/** The sum of an outer step that is closed without some of its jobs. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NO_NEIGHBOURS } from '../../../coordinator/plan/job-neighbours.js';
import type { StepPlan } from '../../../coordinator/plan/step-plan.js';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import {
  gradientReader,
  type JobGradient,
} from '../../../coordinator/training/gradients/job-gradient.js';
import { stepClosings } from '../../../coordinator/training/step-closing.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import {
  deliveredOf,
  layoutOf,
  shapesFor,
  tensorsOf,
  twoTableSpec,
} from '../../fixtures/gradient-results.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';
import { logisticConfig, tinyRun } from '../../fixtures/training/training-run.js';

/** Ids of both tables and a value of each gradient element, by job. */
const ids = fc.uniqueArray(fc.nat(12), { maxLength: 5 }).map((all) => all.sort((a, b) => a - b));
// With cancelling extremes, another order of addition shows.
const value = fc.oneof(
  fc.float({ min: -1000, max: 1000, noNaN: true }),
  fc.constantFrom(3e38, -3e38, 1),
);
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

it('adds gradients that waited for a missing one in job order', () => {
  const jobs = [7, 3e38, -3e38, 1].map((dense, jobIndex) => ({
    ...{ colour: [], shape: [], dense: [dense, 0], rows: [], isLeftOut: jobIndex === 0 },
  }));
  const sum = new MetaGradientSum(twoTableSpec);
  const { shapes, gradients } = gradientsOf(jobs);
  sum.begin(shapes.layouts);
  for (const jobIndex of [3, 2, 1]) sum.add(gradients[jobIndex]!);
  sum.closeWithoutMissing(1);
  // In order of arrival, the sum is 0.
  expect(sum.metaGradient().dense.get('w')?.values[0]).toBe(1);
});

describe('the closing of an outer step', () => {
  const weightsByJob = [[0.1, 0.2], [0.3], [0.4], [0]];
  const jobs = weightsByJob.map((taskWeights, jobIndex) => ({
    ...{ jobIndex, taskIndices: taskWeights.map((_, place) => place), taskWeights },
    ...{ coldTaskWeights: null, drawnRows: null, neighbours: NO_NEIGHBOURS.named },
    sizes: { bucketByTask: [], taskCounts: [], weights: [] },
    ...{ rowCount: 0, cut: [], layout: layoutOf([], []) },
  }));
  const plan: StepPlan = { outerStep: 5, jobs, taskCount: 5 };

  function closed(missing: readonly number[]) {
    const events: RunEvent[] = [];
    const { options } = tinyRun(logisticConfig({}), { sink: (event) => void events.push(event) });
    const sum = new MetaGradientSum(twoTableSpec);
    const { shapes, gradients } = gradientsOf(
      jobs.map(() => ({ colour: [], shape: [], dense: [1, 0], rows: [], isLeftOut: false })),
    );
    sum.begin(shapes.layouts);
    for (const [jobIndex, gradient] of gradients.entries())
      if (!missing.includes(jobIndex)) sum.add(gradient);
    const { leftOut } = stepClosings(options).close(sum, plan, tinyState(tinySpec(), 5));
    return { leftOut, events, gradient: sum.metaGradient().dense.get('w')?.values[0] };
  }

  it('makes up for the task weights of the missing jobs, and records which they are', () => {
    const { leftOut, events, gradient } = closed([1]);
    // Three gradients of 1, whose tasks have the weights 0.1, 0.2, 0.4 and 0.
    expect(gradient).toBe(Math.fround(3 / (0.1 + 0.2 + 0.4)));
    expect(leftOut).toEqual([{ outerStep: 5, jobs: [1] }]);
    expect(events).toEqual([
      { kind: 'leaves-left-out', outerStep: 5, admittedJobCount: 3, jobCount: 4 },
    ]);
  });

  it('changes nothing when no job is missing', () => {
    expect(closed([])).toEqual({ leftOut: undefined, events: [], gradient: 4 });
  });

  it('is refused when the tasks of the others have no weight', () => {
    expect(() => closed([0, 1, 2])).toThrow(expect.objectContaining({ kind: 'data' }) as Error);
  });
});
