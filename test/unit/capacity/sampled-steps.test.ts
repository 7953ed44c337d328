/** The jobs that a plan of capacity samples are those of the run, and they are divided as the run divides them. */

import { describe, expect, it, test } from 'vitest';
import { sampledSteps } from '../../../coordinator/capacity/sampled-steps.js';
import { simulatedOrders } from '../../../coordinator/capacity/simulated-orders.js';
import { inSendingOrder } from '../../../coordinator/dispatch/sending-order.js';
import { costOf, partsOf } from '../../../coordinator/plan/orders/job-parts.js';
import { ordersOf } from '../../../coordinator/plan/orders/step-orders.js';
import { stepPlanner, type StepPlan } from '../../../coordinator/plan/step-plan.js';
import { at } from '../../../shared/base/arrays.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';
import { computeAlone } from './planned-jobs.js';

const store = tinyTaskStore({ taskCount: 40, supportRowCountMax: 90, queryRowCountMax: 120 });
const FOMAML = { kind: 'fomaml', innerSteps: 2, innerRate: 0.5 };
const GLOBAL = { kind: 'global' };
const TASKS = { outerSteps: 50, tasksPerOuterStep: 12, tasksPerJob: 5, microBatchRowsMax: 300 };
const ROWS = {
  outerSteps: 50,
  rowsPerOuterStep: 900,
  taskWeight: 'examples',
  microBatchRowsMax: 300,
};

/** The part of a production plan that decides how its jobs travel. */
async function productionJobs(config: RunConfig, outerStep: number, from: TaskStore = store) {
  const { jobs } = await stepPlanner(config, from, undefined, false).take(outerStep);
  return jobs.map(({ jobIndex, taskIndices, rowCount, cut }) => {
    return { jobIndex, taskIndices, rowCount, cut };
  });
}

describe('sampled outer steps', () => {
  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ['of tasks', TASKS, FOMAML],
    ['of tasks by size', { ...TASKS, sampling: 'square-root' }, FOMAML],
    ['of tasks in jobs of few rows', { ...TASKS, rowsPerJobMax: 200 }, FOMAML],
    ['of a curriculum', { ...TASKS, curriculum: { by: 'size' } }, FOMAML],
    ['of a method that does not adapt', TASKS, GLOBAL],
    ['of drawn rows', ROWS, GLOBAL],
    ['of drawn rows beside all support rows', ROWS, FOMAML],
    ['of drawn rows in jobs of few rows', { ...ROWS, rowsPerJobMax: 200 }, GLOBAL],
  ])('%s have the jobs of the run', async (_, training, method) => {
    const config = logisticConfig(training, method);
    const { jobsAt, jobSize } = sampledSteps(config, store);
    for (const outerStep of [0, 7, 31])
      expect(jobsAt(outerStep, jobSize)).toEqual(await productionJobs(config, outerStep));
  });

  it('have those of another size of jobs', async () => {
    const smaller = logisticConfig({ ...TASKS, tasksPerJob: 2 });
    expect(sampledSteps(logisticConfig(TASKS), store).jobsAt(3, 2)).toEqual(
      await productionJobs(smaller, 3),
    );
    const drawn = logisticConfig({ ...ROWS, rowsPerJobMax: 100 }, GLOBAL);
    expect(sampledSteps(logisticConfig(ROWS, GLOBAL), store).jobsAt(3, 100)).toEqual(
      await productionJobs(drawn, 3),
    );
  });

  it('lie in the middle of sixteen parts of the run', () => {
    const { stepsOf, jobsAt } = sampledSteps(logisticConfig({ ...TASKS, outerSteps: 160 }), store);
    expect(stepsOf(5)).toHaveLength(16);
    expect(stepsOf(5).slice(0, 2)).toEqual([5, 15].map((outerStep) => jobsAt(outerStep, 5)));
    expect(stepsOf(5).at(-1)).toEqual(jobsAt(155, 5));
  });

  it('are fewer where they are large, but one at least', () => {
    const stepCount = (tasksPerOuterStep: number) =>
      sampledSteps(logisticConfig({ ...TASKS, tasksPerOuterStep }), store).stepsOf(512).length;
    // 16,384 tasks at most.
    expect([1_024, 1_025, 8_192, 20_000].map(stepCount)).toEqual([16, 15, 2, 1]);
  });

  it('are one where the run has no outer steps of its own', () => {
    const config = logisticConfig(TASKS);
    const none = { ...config, training: { ...config.training, outerSteps: 0 } };
    expect(sampledSteps(none, store).stepsOf(5)).toHaveLength(1);
  });
});

describe('the sizes of jobs to choose from', () => {
  it('are powers of two up to all tasks', () => {
    const { drawn, drawnCount, jobSize, jobSizes } = sampledSteps(logisticConfig(TASKS), store);
    expect({ drawn, drawnCount, jobSize }).toEqual({ drawn: 'tasks', drawnCount: 12, jobSize: 5 });
    expect(jobSizes).toEqual([1, 2, 4, 8, 12]);
  });

  it('make at most 16,384 jobs, and none that a config refuses', () => {
    const config = logisticConfig({ ...TASKS, tasksPerOuterStep: 100_000 });
    const { jobSizes } = sampledSteps(config, store);
    // 100,000 / 16,384 is above 4.
    expect(jobSizes.slice(0, 2)).toEqual([8, 16]);
    expect(jobSizes.at(-1)).toBe(65_536);
  });

  it('are rows up to as many as a job may have where rows are drawn', () => {
    const config = logisticConfig(ROWS, GLOBAL);
    const { drawn, drawnCount, jobSize, jobSizes, trainingWith } = sampledSteps(config, store);
    const jobs = sampledSteps(config, store).stepsOf(jobSize).flat();
    expect({ drawn, drawnCount }).toEqual({ drawn: 'rows', drawnCount: 900 });
    // The most rows that a job names is 768, and that of these steps a little less, since tasks are not divided.
    expect(jobSize).toBe(Math.max(...jobs.map(({ rowCount }) => rowCount)));
    expect(jobSize).toBeLessThanOrEqual(768);
    expect(jobSizes).toEqual([16, 32, 64, 128, 256, 512, jobSize]);
    // The config has no bound of its own, and a measurement with its size sets none.
    expect(trainingWith(jobSize)).toBe(config.training);
    expect(trainingWith(64)).toEqual({ ...config.training, rowsPerJobMax: 64 });
    const bounded = logisticConfig({ ...ROWS, rowsPerJobMax: 100 }, GLOBAL);
    expect(sampledSteps(bounded, store)).toMatchObject({ jobSize: 100, jobSizes });
  });
});

describe('a job of more tasks than a coordinator cuts', () => {
  it('travels whole and costs as much as its micro-batches', () => {
    const training = { ...TASKS, tasksPerOuterStep: 600, tasksPerJob: 600, sampling: 'sequential' };
    const config = logisticConfig(training);
    const [job] = sampledSteps(config, store).jobsAt(0, 600);
    expect(job?.cut).toHaveLength(1);
    const { jobsAt } = sampledSteps(config, store);
    // The same tasks in jobs of 512 and 88.
    const cutCosts = jobsAt(0, 512).map(({ cut }) => costOf(cut));
    expect(cutCosts).toHaveLength(2);
    expect(costOf(job?.cut ?? [])).toBe(cutCosts.reduce((sum, cost) => sum + cost, 0));
  });
});

describe('the division of a run', () => {
  it.each<[string, Record<string, unknown>, { dividesJobs: boolean; overlap: number }]>([
    ['all jobs count', {}, { dividesJobs: true, overlap: 1 }],
    [
      'a quorum counts',
      { closing: { kind: 'quorum', share: 0.5 } },
      { dividesJobs: false, overlap: 1 },
    ],
    [
      'gradients are rounded',
      { encodings: { gradients: 'int8' } },
      { dividesJobs: false, overlap: 1 },
    ],
    [
      'outer steps overlap',
      { staleness: { outerSteps: 2, drainEveryOuterSteps: 10 }, checkpointEveryOuterSteps: 10 },
      { dividesJobs: true, overlap: 3 },
    ],
  ])('is that of production where %s', (_, training, division) => {
    const config = logisticConfig({ ...TASKS, ...training });
    expect(sampledSteps(config, store).division).toEqual({
      ...division,
      partByteCountMax: config.queue.blobByteCountMax,
    });
  });

  test('sends the orders that the run would send', async () => {
    const config = logisticConfig(TASKS);
    const plan: StepPlan = await stepPlanner(config, store, undefined, false).take(4);
    const spec = modelSpecOf(config.model, store.manifest.features);
    const parts = partsOf(plan, {
      ...{ workerCount: () => 6, msPerCost: 1, stepCount: 1, carriesPartsOf: () => true },
    });
    const context = {
      run: { config, store, storeAddress: 'memory://store', spec },
      ...{ packOf: () => new Uint8Array(), frozen: null, fingerprint: null, parts },
    };
    const sent = inSendingOrder(ordersOf(plan, new Uint8Array(), context)).map(({ job }) => {
      const { jobIndex } = at(parts, job.jobIndex);
      const { cut, rowCount } = at(plan.jobs, jobIndex);
      const range = 'microBatches' in job.work ? job.work.microBatches : undefined;
      return { rowCount, paddedRowCount: costOf(cut.slice(range?.first, range?.end)) };
    });
    expect(parts.length).toBeGreaterThan(plan.jobs.length);
    const jobs = sampledSteps(config, store).jobsAt(4, 5);
    const orders = simulatedOrders(jobs, computeAlone, 6, sampledSteps(config, store).division);
    expect(orders.map(({ rowCount, paddedRowCount }) => ({ rowCount, paddedRowCount }))).toEqual(
      sent,
    );
  });
});
