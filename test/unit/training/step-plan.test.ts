import { describe, expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/dispatch/dispatcher.js';
import { encodeDense, encodeRowPack } from '../../../coordinator/plan/row-pack-gather.js';
import { ordersOf } from '../../../coordinator/plan/orders/step-orders.js';
import { stepPlanner } from '../../../coordinator/plan/step-plan.js';
import { at } from '../../../shared/base/arrays.js';
import { initialMetaParameters } from '../../../shared/models/initial-values.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { jobSchemaFor } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { neighbourRowsOf } from '../../../shared/tasks/rows/neighbour-rows.js';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { layoutOf } from '../../fixtures/gradient-results.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

const config = logisticConfig({ outerSteps: 3, tasksPerOuterStep: 5, tasksPerJob: 2 });

/** Counts reads, and fails those with the given call numbers. */
function countingStore(
  failing: readonly number[] = [],
): TaskStore & { readonly reads: number[][] } {
  const store = tinyTaskStore();
  const reads: number[][] = [];
  return {
    ...store,
    reads,
    readTasks: (indices) => {
      reads.push([...indices]);
      if (failing.includes(reads.length)) return Promise.reject(new Error('unreadable'));
      return store.readTasks(indices);
    },
  };
}

describe('the step planner', () => {
  it('cuts a step into jobs whose weights sum to 1 over the whole step', async () => {
    const plan = await stepPlanner(config, tinyTaskStore()).take(0);
    expect(plan.jobs.map((job) => job.taskIndices.length)).toEqual([2, 2, 1]);
    expect(plan.taskCount).toBe(5);
    const weights = plan.jobs.flatMap((job) => job.taskWeights);
    expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 12);
    expect(new Set(plan.jobs.flatMap((job) => job.taskIndices)).size).toBe(5);
    for (const index of plan.jobs.flatMap((job) => job.taskIndices))
      expect(index % 5).toBeLessThan(3);
  });

  it('reads one step ahead when it is told, each step once, and not past the last', async () => {
    const store = countingStore();
    const planner = stepPlanner(config, store);
    planner.readAhead();
    await planner.take(0);
    expect(store.reads).toHaveLength(1);
    for (const outerStep of [1, 2]) {
      planner.readAhead();
      planner.readAhead();
      expect(store.reads).toHaveLength(outerStep + 1);
      await planner.take(outerStep);
    }
    planner.readAhead();
    expect(store.reads).toHaveLength(3);
  });

  it('plans the same with and without a previous step', async () => {
    const planner = stepPlanner(config, tinyTaskStore());
    await planner.take(0);
    planner.readAhead();
    expect(await planner.take(1)).toEqual(await stepPlanner(config, tinyTaskStore()).take(1));
  });

  it('lets the global method read tasks in epochs, in catalog order on request', async () => {
    const taskIndicesOf = async (sampling: 'proportional' | 'sequential'): Promise<number[]> => {
      const training = { ...config.training, sampling };
      const planner = stepPlanner(
        { ...config, method: { kind: 'global' }, training },
        tinyTaskStore(),
      );
      const plan = await planner.take(0);
      return plan.jobs.flatMap((job) => job.taskIndices).sort((a, b) => a - b);
    };
    expect(await taskIndicesOf('sequential')).toEqual([0, 1, 2, 5, 6]);
    expect(new Set(await taskIndicesOf('proportional')).size).toBe(5);
  });

  it('throws a failed read when the step is requested, not before', async () => {
    const planner = stepPlanner(config, countingStore([2]));
    await planner.take(0);
    planner.readAhead();
    await planner.settled();
    await expect(planner.take(1)).rejects.toThrow('unreadable');
  });
});

// Seen to fail on a row pack of the job's own tasks.
describe('the neighbours of tasks', () => {
  const method = methodOf({ kind: 'paml-gate', neighbours: { feature: 'category0', count: 2 } });

  it('are named by their jobs, whose row packs cover them', async () => {
    const store = tinyTaskStore();
    const { jobs } = await stepPlanner({ ...config, method }, store).take(0);
    for (const { taskIndices, neighbours: named, layout } of jobs) {
      const neighbours = named.neighbours ?? [];
      expect(neighbours).toHaveLength(taskIndices.length);
      const tasks = await store.readTasks(taskIndices);
      const others = await store.readTasks(neighbours.flat());
      expect(layout).toEqual(rowPackLayoutOf([...tasks, ...others.map((t) => neighbourRowsOf(t))]));
      for (const [place, index] of taskIndices.entries())
        expect(neighbours[place]).not.toContain(index);
    }
    expect(jobs.flatMap(({ neighbours }) => neighbours.neighbours?.flat() ?? [])).not.toEqual([]);
  });

  it('are absent from jobs of other methods', async () => {
    const { jobs } = await stepPlanner(config, tinyTaskStore()).take(0);
    for (const { neighbours } of jobs) expect(neighbours).toEqual({});
  });
});

describe('the cut of a planned job', () => {
  const cutsOf = async (tasksPerJob: number, taskCount: number) => {
    const training = { ...config.training, tasksPerOuterStep: tasksPerJob, tasksPerJob };
    const ofJobs = { ...config, training: { ...training, microBatchRowsMax: 64 } };
    const { jobs } = await stepPlanner(ofJobs, tinyTaskStore({ taskCount })).take(0);
    return jobs;
  };

  it('has the tasks and rows of the job', async () => {
    const [job] = await cutsOf(12, 24);
    const { cut = [], taskIndices = [], rowCount } = job ?? {};
    expect(cut.length).toBeGreaterThan(1);
    const places = cut.flatMap(({ taskPlaces }) => taskPlaces).sort((a, b) => a - b);
    expect(places).toEqual([...taskIndices.keys()]);
    expect(cut.reduce((sum, each) => sum + each.rowCount, 0)).toBe(rowCount);
  });

  it('is one piece where the tasks are many', async () => {
    const [job] = await cutsOf(513, 1_200);
    expect(job?.taskIndices).toHaveLength(513);
    expect(job?.cut).toMatchObject([{ rowCount: job?.rowCount, cost: 512 + (job?.rowCount ?? 0) }]);
    const [smaller] = await cutsOf(512, 1_200);
    expect(smaller?.cut.length).toBeGreaterThan(1);
  });
});

describe('the orders of a step', () => {
  it('are valid jobs that share one dense array', async () => {
    const store = tinyTaskStore();
    const spec = modelSpecOf(config.model, store.manifest.features);
    const metaParameters = initialMetaParameters(spec, config.seed);
    const plan = await stepPlanner(config, store).take(0);
    const orders = ordersOf(plan, encodeDense(metaParameters), {
      run: { config, store, storeAddress: 'memory://store', spec },
      packOf: (jobIndex) =>
        encodeRowPack(metaParameters.tables, at(plan.jobs, jobIndex).layout, spec.tableRowWidth),
      frozen: null,
      fingerprint: null,
    });
    expect(new Set(orders.map((order) => order.dense)).size).toBe(1);
    for (const [jobIndex, order] of orders.entries()) {
      const expected = { runId: 'tiny-run', jobIndex, outerStep: 0, timeoutMs: 120_000 };
      const job = jobOf(order, blobRefOf);
      expect(jobSchemaFor(job).parse(job)).toMatchObject(expected);
      const rows = decodeTensors(order.rowPack ?? new Uint8Array(), 'test').get('rows');
      expect(rows?.shape).toEqual([plan.jobs[jobIndex]?.layout.rowCount, 1]);
    }
  });
});

describe('encodeRowPack', () => {
  it('gathers the rows of each table in the order of the layout', () => {
    const tables = new Map([
      ['colour', { rowCount: 3, width: 2, values: Float32Array.of(0, 1, 2, 3, 4, 5) }],
      ['shape', { rowCount: 2, width: 2, values: Float32Array.of(10, 11, 12, 13) }],
    ]);
    const pack = decodeTensors(encodeRowPack(tables, layoutOf([0, 2], [1]), 2), 'test');
    expect(pack.get('rows')?.shape).toEqual([3, 2]);
    expect([...(pack.get('rows')?.values ?? [])]).toEqual([0, 1, 4, 5, 12, 13]);
  });

  it('refuses a layout with another number of tables', () => {
    const tables = new Map([['colour', { rowCount: 1, width: 1, values: Float32Array.of(0) }]]);
    expect(() => encodeRowPack(tables, layoutOf(), 1)).toThrow(/0 tables, not 1/);
  });
});
