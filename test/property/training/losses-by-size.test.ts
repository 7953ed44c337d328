/**
 * The losses of an outer step by size have the same bits in any order of arrival, and add up to the
 * losses of the step however its tasks are cut into jobs. Seen to fail: with sums in order of arrival, and with a
 * bucket that is left out.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { sizeDivisionOf } from '../../../coordinator/plan/job-sizes.js';
import type { GradientAggregate } from '../../../coordinator/training/gradient-aggregate.js';
import { gradientReader } from '../../../coordinator/training/gradients/job-gradient.js';
import type { StepLosses } from '../../../coordinator/training/losses/loss-sums.js';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import { RobustAggregate } from '../../../coordinator/training/robust-aggregate.js';
import { JobResultSchema } from '../../../shared/queue/protocol.js';
import { sizeLossesOf } from '../../../shared/queue/blobs/gradient-losses.js';
import { deliveredOf, layoutOf, shapesFor, tensorsOf } from '../../fixtures/gradient-results.js';

interface Task {
  readonly supportRowCount: number;
  readonly weight: number;
  readonly isTrunk: boolean;
  readonly query: number;
  readonly support: number;
}

// 3e15 + 0.3 - 3e15 is 0.5, and 0.3 in another order.
const loss = fc.oneof(
  fc.constantFrom(3e15, -3e15, 0.3),
  fc.double({ min: 0, max: 2, noNaN: true }),
);
const task = fc.record<Task>({
  supportRowCount: fc.nat(40),
  weight: fc.double({ min: 0.01, max: 1, noNaN: true }),
  isTrunk: fc.nat(9).map((drawn) => drawn === 0),
  query: loss,
  support: loss,
});
/** Tasks by job. */
const step = fc.array(fc.array(task, { minLength: 1, maxLength: 4 }), {
  minLength: 1,
  maxLength: 7,
});
const edges = fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { maxLength: 20 });

const aggregates: readonly [string, (spec: (typeof twoShapes)['spec']) => GradientAggregate][] = [
  ['the sum', (spec) => new MetaGradientSum(spec)],
  ['the median', (spec) => new RobustAggregate(spec, { kind: 'median' })],
];
const twoShapes = shapesFor([]);

/** The losses of a step whose jobs arrive in this order; those that are left out never do. */
function lossesOf(
  jobs: readonly (readonly Task[])[],
  {
    upperEdges,
    order,
  }: { readonly upperEdges: readonly number[]; readonly order: readonly number[] },
  aggregateOf: (typeof aggregates)[number][1],
): StepLosses {
  const division = sizeDivisionOf(upperEdges);
  const sizes = jobs.map((tasks) => division.of(tasks));
  const shapes = { ...shapesFor(jobs.map(() => layoutOf([], []))), sizes };
  const read = gradientReader(shapes);
  const sum = aggregateOf(shapes.spec);
  const weights = jobs.map((tasks) => weightOf(tasks));
  sum.begin(shapes.layouts, weights);
  for (const jobIndex of order) {
    const tasks = jobs[jobIndex]!;
    const delivered = deliveredOf(
      jobIndex,
      tensorsOf([1, 2], []),
      resultPartsOf(tasks, sizes[jobIndex]!),
    );
    const gradient = read({ ...delivered, result: travelled(delivered.result) });
    if (typeof gradient === 'string') throw new Error(`refused: ${gradient}`);
    sum.add(gradient);
  }
  const share = weights.reduce(
    (total, weight, job) => total + (order.includes(job) ? weight : 0),
    0,
  );
  if (order.length < jobs.length) sum.closeWithoutMissing(share);
  return sum.losses;
}

function weightOf(tasks: readonly Task[]): number {
  return tasks.reduce((sum, { weight }) => sum + weight, 0);
}

/** Sums as a worker computes them. */
function resultPartsOf(
  tasks: readonly Task[],
  { bucketByTask }: { bucketByTask: readonly number[] },
) {
  const taskWeights = tasks.map(({ weight }) => weight);
  const lossesBySize = sizeLossesOf(
    { taskWeights, sizeBuckets: [...bucketByTask] },
    {
      queryLosses: Float64Array.from(tasks, ({ query }) => query),
      supportLosses: Float64Array.from(tasks, ({ support }) => support),
      queryLossesBefore: Float64Array.from(tasks, ({ query, support }) => support - query),
    },
  );
  return {
    weightedQueryLoss: tasks.reduce((sum, { weight, query }) => sum + weight * query, 0),
    weightedSupportLoss: tasks.reduce((sum, { weight, support }) => sum + weight * support, 0),
    weightedQueryLossBefore: tasks.reduce(
      (sum, { weight, query, support }) => sum + weight * (support - query),
      0,
    ),
    taskCount: tasks.length,
    ...(lossesBySize === undefined ? {} : { lossesBySize }),
  };
}

/** The result on its way as JSON. */
function travelled(result: ReturnType<typeof deliveredOf>['result']) {
  return JobResultSchema.parse(JSON.parse(JSON.stringify(result)));
}

it.each(aggregates)('%s has the same bits in any order', (_name, aggregateOf) => {
  fc.assert(
    fc.property(
      step,
      edges,
      fc.infiniteStream(fc.nat(1_000)),
      fc.boolean(),
      (jobs, upperEdges, draws, isClosed) => {
        const inOrder = jobs.map((_, jobIndex) => jobIndex);
        const kept = isClosed ? inOrder.slice(0, Math.max(1, jobs.length - 2)) : inOrder;
        const keys = new Map(kept.map((job) => [job, draws.next().value ?? 0]));
        const shuffled = [...kept].sort((a, b) => keys.get(a)! - keys.get(b)!);
        const [found, expected] = [shuffled, kept].map((order) =>
          lossesOf(jobs, { upperEdges, order }, aggregateOf),
        );
        expect(found).toEqual(expected);
        expect(found!.bySize?.queryLossBeforeSums).toBeDefined();
        expect(found!.queryLossBefore).not.toBeNull();
      },
    ),
    { seed: 74, numRuns: 200 },
  );
});

it.each(aggregates)(
  '%s adds up to the losses of the step, however it is cut',
  (_name, aggregateOf) => {
    fc.assert(
      fc.property(step, edges, fc.integer({ min: 1, max: 9 }), (jobs, upperEdges, tasksPerJob) => {
        const mild = jobs
          .flat()
          .map((each) => ({ ...each, query: each.query % 2, support: each.support % 2 }));
        const cut = Array.from({ length: Math.ceil(mild.length / tasksPerJob) }, (_, job) =>
          mild.slice(job * tasksPerJob, (job + 1) * tasksPerJob),
        );
        const order = cut.map((_, jobIndex) => jobIndex);
        const { queryLoss, supportLoss, bySize } = lossesOf(
          cut,
          { upperEdges, order },
          aggregateOf,
        );
        const trunk = mild.filter(({ isTrunk }) => isTrunk);
        const rest = (of: (each: Task) => number): number =>
          trunk.reduce((sum, each) => sum + each.weight * of(each), 0);
        const total = (sums: readonly number[]): number =>
          sums.reduce((sum, value) => sum + value, 0);
        expect(total(bySize!.queryLossSums) + rest(({ query }) => query)).toBeCloseTo(
          queryLoss,
          10,
        );
        expect(total(bySize!.supportLossSums) + rest(({ support }) => support)).toBeCloseTo(
          supportLoss,
          10,
        );
        expect(total(bySize!.weights) + weightOf(trunk)).toBeCloseTo(weightOf(mild), 10);
        expect(total(bySize!.taskCounts)).toBe(mild.length - trunk.length);
      }),
      { seed: 74, numRuns: 200 },
    );
  },
);
