/** The model of an outer step, with numbers worked by hand. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  capacityPlan,
  predicted,
  tasksPerJobChoices,
} from '../../../coordinator/capacity/capacity-plan.js';
import { measuredCosts, median } from '../../../coordinator/capacity/measured-costs.js';
import type { MeasuredStep } from '../../../coordinator/capacity/measured-dispatcher.js';
import { linearCost, type StepCosts } from '../../../coordinator/capacity/step-costs.js';
import { jobSizes } from '../../../coordinator/capacity/step-simulation.js';

const none = { perJob: 0, perTask: 0 };
/** 64 tasks of 1 ms each; nothing else costs anything. */
const computeAlone: StepCosts = {
  tasksPerOuterStep: 64,
  serialMs: 0,
  computeMs: { perJob: 0, perTask: 1 },
  computeSpread: [1],
  coordinatorMs: none,
  processorMs: none,
  idleMs: 0,
  denseByteCount: 0,
  inputByteCount: none,
  outputByteCount: none,
  serverBytesPerMs: 1,
};
const stepMs = (costs: StepCosts, workerCount: number, tasksPerJob: number): number =>
  predicted(costs, { workerCount, tasksPerJob }).stepMs;

describe('a step that only computes', () => {
  test('takes ceil(J / W) jobs and the serial part', () => {
    expect(stepMs(computeAlone, 1, 8)).toBe(64);
    expect(stepMs(computeAlone, 8, 8)).toBe(8);
    // 8 jobs on 3 workers are 3 rounds of 8 ms.
    expect(stepMs({ ...computeAlone, serialMs: 5 }, 3, 8)).toBe(29);
    expect(stepMs(computeAlone, 1000, 8)).toBe(8);
  });

  test('has a last job with what is left', () => {
    expect(jobSizes(10, 4)).toEqual([4, 4, 2]);
    expect(stepMs({ ...computeAlone, tasksPerOuterStep: 10 }, 1, 4)).toBe(10);
  });
});

describe('what else a step costs', () => {
  test('the coordinator serves one job at a time', () => {
    // It sends and takes 8 jobs in 2 ms each. The first result comes at 10 ms, when it still sends, so it
    // is never without work: 8 x 4 ms.
    const costs = { ...computeAlone, coordinatorMs: { perJob: 4, perTask: 0 } };
    expect(stepMs(costs, 8, 8)).toBeCloseTo(32, 9);
    expect(predicted(costs, { workerCount: 8, tasksPerJob: 8 }).busy.coordinator).toBeCloseTo(1, 9);
  });

  test('the server carries the dense inputs once for each worker', () => {
    // One worker: dense put and fetched (2 x 10 ms), then two jobs of 32 ms.
    const costs = { ...computeAlone, denseByteCount: 10 };
    expect(stepMs(costs, 1, 32)).toBe(84);
    // Two workers: put 10, fetched until 20 and until 30, computed until 62.
    expect(stepMs(costs, 2, 32)).toBe(62);
  });

  test('a worker idles behind each job but for the last', () => {
    expect(stepMs({ ...computeAlone, idleMs: 3 }, 1, 32)).toBe(32 + 3 + 32);
  });

  test('is drawn from the times of jobs as they were measured', () => {
    const costs = { ...computeAlone, computeSpread: [0.5, 1.5] };
    const { stepMs: found } = predicted(costs, { workerCount: 64, tasksPerJob: 1 });
    // The slowest of 64 jobs is one of 1.5 ms, but for one chance in 2^64.
    expect(found).toBeCloseTo(1.5, 9);
  });
});

describe('cores that all processes share', () => {
  // 8 jobs of 8 ms computing, 10 ms of processor time beside the coordinator, whose own is 2 ms.
  const costs = {
    ...computeAlone,
    serialMs: 4,
    processorMs: { perJob: 2, perTask: 1 },
    coordinatorMs: { perJob: 2, perTask: 0 },
  };

  test('bound a step by all processor time, but for the serial part', () => {
    const shape = { workerCount: 8, tasksPerJob: 8, cores: 2 };
    expect(predicted(costs, shape)).toMatchObject({ stepMs: 4 + (8 * 12) / 2, bound: 'cores' });
  });

  test('bound nothing where they suffice', () => {
    const shape = { workerCount: 8, tasksPerJob: 8 };
    expect(predicted(costs, { ...shape, cores: 64 })).toEqual({
      ...predicted(costs, shape),
      cores: 64,
    });
  });
});

test('more workers are never slower, and work is conserved', () => {
  const cost = fc.double({ min: 0.01, max: 5, noNaN: true });
  const linear = fc.record({ perJob: cost, perTask: cost });
  fc.assert(
    fc.property(
      ...[linear, cost, cost, fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 30 })],
      (computeMs, serialMs, idleMs, tasksPerJob, workerCount) => {
        const costs = { ...computeAlone, computeMs, serialMs, idleMs };
        const [some, more] = [workerCount, 2 * workerCount].map((count) =>
          predicted(costs, { workerCount: count, tasksPerJob }),
        );
        expect(more!.stepMs).toBeLessThanOrEqual(some!.stepMs + 1e-9);
        const jobCount = Math.ceil(64 / tasksPerJob);
        const computedMs = jobCount * computeMs.perJob + 64 * computeMs.perTask;
        expect(some!.busy.workers * some!.stepMs * workerCount).toBeCloseTo(computedMs, 6);
        expect(some!.stepMs).toBeGreaterThanOrEqual(computedMs / workerCount + serialMs - 1e-9);
      },
    ),
  );
});

describe('a plan', () => {
  test('says what bounds the throughput first, and chooses the tasks of a job', () => {
    const plan = capacityPlan(computeAlone, 8, [1, 8, 64]);
    expect(plan.byWorkers.map(({ asConfigured }) => asConfigured.tasksPerSecond)).toEqual([
      1_000, 8_000, 8_000,
    ]);
    expect(plan.byWorkers.map(({ asConfigured }) => asConfigured.bound)).toEqual([
      ...['workers', 'workers', 'jobs'],
    ]);
    expect(plan.saturation).toEqual({ bound: 'jobs', workerCount: 64 });
    // The largest jobs of the same throughput: all tasks, an eighth, one each.
    expect(plan.byWorkers.map(({ best }) => best.tasksPerJob)).toEqual([64, 8, 1]);
  });

  test('blames too few jobs where nothing is busy half of the time, though the coordinator is busiest', () => {
    // The last of 4 jobs is sent at 3 ms, computed at 19 and taken at 19.75; the step ends at 25.75. The
    // coordinator is busy for 12 ms of it, 16 workers for 4 ms each.
    const costs = { ...computeAlone, serialMs: 6, coordinatorMs: { perJob: 1.5, perTask: 0 } };
    const { busy, bound } = predicted(costs, { workerCount: 16, tasksPerJob: 16 });
    expect(busy.coordinator).toBeGreaterThan(busy.workers);
    expect(busy.coordinator).toBeLessThan(0.5);
    expect(bound).toBe('jobs');
  });

  test('names a coordinator and a server that cannot follow', () => {
    const shape = { workerCount: 64, tasksPerJob: 1 };
    const coordinatorMs = { perJob: 1, perTask: 0 };
    expect(predicted({ ...computeAlone, coordinatorMs }, shape).bound).toBe('coordinator');
    const outputByteCount = { perJob: 2, perTask: 0 };
    expect(predicted({ ...computeAlone, outputByteCount }, shape).bound).toBe('server');
  });

  test('tries powers of two and all tasks', () => {
    expect(tasksPerJobChoices(10)).toEqual([1, 2, 4, 8, 10]);
    expect(tasksPerJobChoices(1)).toEqual([1]);
  });
});

describe('costs from measured steps', () => {
  test('are a line through two sizes of jobs, with no part below 0', () => {
    expect(linearCost({ tasks: 8, cost: 10 }, { tasks: 2, cost: 4 })).toEqual({
      ...{ perJob: 2, perTask: 1 },
    });
    expect(linearCost({ tasks: 4, cost: 8 }, { tasks: 1, cost: 1 })).toEqual({
      ...{ perJob: 0, perTask: 9 / 5 },
    });
    expect(linearCost({ tasks: 4, cost: 1 }, { tasks: 1, cost: 3 })).toEqual({
      ...{ perJob: 2, perTask: 0 },
    });
    expect(linearCost({ tasks: 2, cost: 6 }, { tasks: 2, cost: 6 })).toEqual({
      ...{ perJob: 0, perTask: 3 },
    });
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  });

  test('give back the measured time of a step with one worker', () => {
    const stepOf = (computeMs: number, dispatchMs: number): MeasuredStep => ({
      computeMsOfJobs: [computeMs, computeMs],
      ...{ dispatchMs, processorMs: 2, othersProcessorMs: 24, serialMs: 5, denseByteCount: 100 },
      ...{ inputByteCount: 50, outputByteCount: 50 },
    });
    const first = { tasksPerJob: 4, steps: [stepOf(10, 40), stepOf(10, 40)] };
    const second = { tasksPerJob: 1, steps: [stepOf(4, 70)] };
    const costs = measuredCosts(8, [first, second], 100);
    expect(costs.computeMs).toEqual({ perJob: 2, perTask: 2 });
    expect(costs.serialMs).toBe(5);
    // 24 ms for two jobs, of whatever size.
    expect(costs.processorMs).toEqual({ perJob: 12, perTask: 0 });
    expect(costs.computeSpread).toEqual([1, 1, 1, 1]);
    expect(stepMs(costs, 1, 4)).toBeCloseTo(45, 1);
  });
});
