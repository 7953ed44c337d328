/** The model of an outer step, with numbers worked by hand. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  capacityPlan,
  predicted,
  type Prediction,
} from '../../../coordinator/capacity/capacity-plan.js';
import { sizeChoices } from '../../../coordinator/capacity/sampled-steps.js';
import type { StepCosts } from '../../../coordinator/capacity/step-costs.js';
import { alikeSteps, computeAlone, equalJobs } from './planned-jobs.js';

/** Of 64 tasks, if not said otherwise. */
function prediction(
  costs: StepCosts,
  workerCount: number,
  jobSize: number,
  { taskCount = 64, cores }: { taskCount?: number; cores?: number } = {},
): Prediction {
  const steps = [equalJobs(taskCount, jobSize)];
  const planned = alikeSteps(() => steps.flat(), { taskCount });
  return predicted(costs, planned, { workerCount, jobSize, steps, ...(cores ? { cores } : {}) });
}
const stepMs = (costs: StepCosts, workerCount: number, tasksPerJob: number): number =>
  prediction(costs, workerCount, tasksPerJob).stepMs;

describe('a step that only computes', () => {
  test('takes ceil(J / W) jobs and the serial part', () => {
    expect(stepMs(computeAlone, 1, 8)).toBe(64);
    expect(stepMs(computeAlone, 8, 8)).toBe(8);
    // 8 jobs on 3 workers are 3 rounds of 8 ms.
    expect(stepMs({ ...computeAlone, serialMs: 5 }, 3, 8)).toBe(29);
    expect(stepMs(computeAlone, 1000, 8)).toBe(8);
  });

  test('has a last job with what is left', () => {
    expect(prediction(computeAlone, 1, 4, { taskCount: 10 })).toMatchObject({
      ...{ stepMs: 10, orderCount: 3, perSecond: 1_000 },
    });
  });
});

describe('what else a step costs', () => {
  test('the coordinator serves one job at a time', () => {
    // It sends and takes 8 jobs in 2 ms each. The first result comes at 10 ms, when it still sends, so it
    // is never without work: 8 x 4 ms.
    const costs = { ...computeAlone, coordinatorMs: { perJob: 4, perRow: 0 } };
    expect(stepMs(costs, 8, 8)).toBeCloseTo(32, 9);
    expect(prediction(costs, 8, 8).busy.coordinator).toBeCloseTo(1, 9);
  });

  test('the server carries the dense inputs once for each worker', () => {
    // One worker: dense put and fetched (2 x 10 ms), then two jobs of 32 ms.
    const costs = { ...computeAlone, denseByteCount: 10 };
    expect(stepMs(costs, 1, 32)).toBe(84);
    // Two workers: put 10, fetched until 20 and until 30, computed until 62.
    expect(stepMs(costs, 2, 32)).toBe(62);
  });

  test('a worker idles before each job', () => {
    expect(stepMs({ ...computeAlone, idleMs: { perJob: 3, perRow: 0 } }, 1, 32)).toBe(70);
    expect(stepMs({ ...computeAlone, idleMs: { perJob: 0, perRow: 0.5 } }, 2, 32)).toBe(48);
  });

  test('is drawn from the times of jobs as they were measured', () => {
    const costs = { ...computeAlone, computeSpread: [0.5, 1.5] };
    // The slowest of 64 jobs is one of 1.5 ms, but for one chance in 2^64.
    expect(stepMs(costs, 64, 1)).toBeCloseTo(1.5, 9);
  });
});

describe('cores that all processes share', () => {
  // 8 jobs of 8 ms computing, 10 ms of processor time beside the coordinator, whose own is 2 ms.
  const costs = {
    ...computeAlone,
    serialMs: 4,
    processorMs: { perJob: 2, perRow: 1 },
    coordinatorMs: { perJob: 2, perRow: 0 },
  };

  test('bound a step by all processor time, but for the serial part', () => {
    expect(prediction(costs, 8, 8, { cores: 2 })).toMatchObject({
      ...{ stepMs: 4 + (8 * 12) / 2, bound: 'cores' },
    });
  });

  test('bound nothing where they suffice', () => {
    expect(prediction(costs, 8, 8, { cores: 64 })).toEqual(prediction(costs, 8, 8));
  });
});

test('more workers are never slower, and work is conserved', () => {
  const cost = fc.double({ min: 0.01, max: 5, noNaN: true });
  const linear = fc.record({ perJob: cost, perRow: cost });
  fc.assert(
    fc.property(
      ...[linear, cost, linear, fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 30 })],
      (computeMs, serialMs, idleMs, tasksPerJob, workerCount) => {
        const costs = { ...computeAlone, computeMs, serialMs, idleMs };
        const [some, more] = [workerCount, 2 * workerCount].map((count) =>
          prediction(costs, count, tasksPerJob),
        );
        expect(more!.stepMs).toBeLessThanOrEqual(some!.stepMs + 1e-9);
        const jobCount = Math.ceil(64 / tasksPerJob);
        const computedMs = jobCount * computeMs.perJob + 64 * computeMs.perRow;
        expect(some!.busy.workers * some!.stepMs * workerCount).toBeCloseTo(computedMs, 6);
        expect(some!.stepMs).toBeGreaterThanOrEqual(computedMs / workerCount + serialMs - 1e-9);
      },
    ),
  );
});

describe('a plan', () => {
  test('says what bounds the throughput first, and chooses the size of jobs', () => {
    const plan = capacityPlan(
      computeAlone,
      alikeSteps((size) => equalJobs(64, size)),
      [1, 8, 64],
    );
    expect(plan.byWorkers.map(({ asConfigured }) => asConfigured.perSecond)).toEqual([
      1_000, 8_000, 8_000,
    ]);
    expect(plan.byWorkers.map(({ asConfigured }) => asConfigured.bound)).toEqual([
      ...['workers', 'workers', 'jobs'],
    ]);
    expect(plan.saturation).toEqual({ bound: 'jobs', workerCount: 64 });
    // The largest jobs of the same throughput: all tasks, an eighth, one each.
    expect(plan.byWorkers.map(({ best }) => best.jobSize)).toEqual([64, 8, 1]);
  });

  test('blames too few jobs where nothing is busy half of the time, though the coordinator is busiest', () => {
    // The last of 4 jobs is sent at 3 ms, computed at 19 and taken at 19.75; the step ends at 25.75. The
    // coordinator is busy for 12 ms of it, 16 workers for 4 ms each.
    const costs = { ...computeAlone, serialMs: 6, coordinatorMs: { perJob: 1.5, perRow: 0 } };
    const { busy, bound } = prediction(costs, 16, 16);
    expect(busy.coordinator).toBeGreaterThan(busy.workers);
    expect(busy.coordinator).toBeLessThan(0.5);
    expect(bound).toBe('jobs');
  });

  test('names a coordinator and a server that cannot follow', () => {
    const each = { perJob: 1, perRow: 0 };
    expect(prediction({ ...computeAlone, coordinatorMs: each }, 64, 1).bound).toBe('coordinator');
    const outputByteCount = { perJob: 2, perRow: 0 };
    expect(prediction({ ...computeAlone, outputByteCount }, 64, 1).bound).toBe('server');
  });

  test('tries powers of two between the bounds, and the upper one', () => {
    expect(sizeChoices(1, 10)).toEqual([1, 2, 4, 8, 10]);
    expect(sizeChoices(3, 10)).toEqual([4, 8, 10]);
    expect(sizeChoices(1, 1)).toEqual([1]);
    expect(sizeChoices(16, 5)).toEqual([5]);
  });
});
