import { describe, expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/dispatch/dispatcher.js';
import { encodeDense, ordersOf } from '../../../coordinator/plan/step-orders.js';
import { layoutOf, stepPlanner } from '../../../coordinator/plan/step-plan.js';
import { at } from '../../../shared/base/arrays.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { JobSchema } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { encodeRowPack } from '../../../shared/tasks/row-pack.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { decodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

const config = logisticConfig({ outerSteps: 3, tasksPerOuterStep: 5, leavesPerOuterStepMin: 2 });

function countingStore(): TaskStore & { readonly reads: number[][] } {
  const store = tinyTaskStore();
  const reads: number[][] = [];
  return {
    ...store,
    reads,
    readTasks: (indices) => {
      reads.push([...indices]);
      return store.readTasks(indices);
    },
  };
}

describe('the step planner', () => {
  it('has the tasks of each leaf next to each other, with what belongs to them', async () => {
    const store = tinyTaskStore();
    const training = { ...config.training, rowsPerOuterStep: 40, taskWeight: 'examples' as const };
    const { leaves, tasks } = await stepPlanner({ ...config, training }, store).take(0);
    const queryCounts = (tasks.drawnRows ?? []).map(
      ({ length }, task) => length - at(tasks.drawnSupportCounts ?? [], task),
    );
    const queryCount = queryCounts.reduce((sum, count) => sum + count, 0);
    for (const { taskStart, taskEnd, microBatch } of leaves) {
      expect(microBatch.taskPlaces).toHaveLength(taskEnd - taskStart);
      for (let task = taskStart; task < taskEnd; task += 1) {
        const { supportRowCount, queryRowCount } = at(store.tasks, at(tasks.taskIndices, task));
        const drawn = at(tasks.drawnRows ?? [], task);
        const own = at(queryCounts, task);
        expect(drawn.length - own).toBeLessThanOrEqual(microBatch.supportExtent);
        expect(own).toBeLessThanOrEqual(microBatch.queryExtent);
        expect(drawn.every((row) => row < supportRowCount + queryRowCount)).toBe(true);
        // Weights are the shares of the query rows.
        expect(at(tasks.taskWeights, task)).toBeCloseTo(own / queryCount, 12);
      }
    }
  });

  it.each(['time', 'hash'] as const)('draws episodes of rows that are split by %s', async (by) => {
    const training = { ...config.training, rowsPerOuterStep: 40, taskWeight: 'examples' as const };
    const data = { ...config.data, rowSplit: { ...config.data.rowSplit, by } };
    const { tasks } = await stepPlanner({ ...config, data, training }, tinyTaskStore()).take(0);
    const isInOrder = (tasks.drawnRows ?? []).every((rows) =>
      rows.every((row, place) => place === 0 || row > at(rows, place - 1)),
    );
    expect(isInOrder).toBe(by === 'time');
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

  it('lets the global method read tasks in epochs, in catalog order on request', async () => {
    const taskIndicesOf = async (sampling: 'proportional' | 'sequential'): Promise<number[]> => {
      const training = { ...config.training, sampling };
      const planner = stepPlanner(
        { ...config, method: { kind: 'global' }, training },
        tinyTaskStore(),
      );
      const plan = await planner.take(0);
      return [...plan.tasks.taskIndices].sort((a, b) => a - b);
    };
    expect(await taskIndicesOf('sequential')).toEqual([0, 1, 2, 5, 6]);
    expect(new Set(await taskIndicesOf('proportional')).size).toBe(5);
  });
});

it('the orders of a step are valid jobs that share one dense array', async () => {
  const store = tinyTaskStore();
  const spec = modelSpecOf(config.model, store.manifest.features);
  const metaParameters = initialMetaParameters(spec, config.seed);
  const plan = await stepPlanner(config, store).take(0);
  const leafCount = plan.leaves.length;
  const deliveries = [
    { first: 1, end: leafCount },
    { first: 0, end: 1 },
  ];
  const orders = ordersOf(plan, deliveries, encodeDense(metaParameters), {
    run: { config, store, storeAddress: 'memory://store', spec },
    packOf: (place) =>
      encodeRowPack(
        metaParameters.tables,
        layoutOf(plan, at(deliveries, place)),
        spec.tableRowWidth,
      ),
    frozen: null,
    fingerprint: null,
  });
  expect(new Set(orders.map((order) => order.dense)).size).toBe(1);
  for (const [jobIndex, order] of orders.entries()) {
    const expected = { runId: 'tiny-run', jobIndex, outerStep: 0, timeoutMs: 120_000 };
    const job = jobOf(order, blobRefOf);
    expect(JobSchema.parse(job)).toMatchObject(expected);
    const rows = decodeTensors(order.rowPack ?? new Uint8Array(), 'test').get('rows');
    expect(rows?.shape).toEqual([layoutOf(plan, at(deliveries, jobIndex)).rowCount, 1]);
    const { first, end } = at(deliveries, jobIndex);
    expect(job.work).toMatchObject({ leaves: { first, stepLeafCount: leafCount } });
    const [start, taskEnd] = [at(plan.leaves, first).taskStart, at(plan.leaves, end - 1).taskEnd];
    expect(order.job.taskIndices).toEqual(plan.tasks.taskIndices.slice(start, taskEnd));
  }
});
