/** Traffic depends on the rows that jobs touch and not on the size of the tables, on a real Redis. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeDense } from '../../../coordinator/plan/step-orders.js';
import { cutIntoDeliveries } from '../../../coordinator/plan/deliveries.js';
import { layoutOf, stepPlanner } from '../../../coordinator/plan/step-plan.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { connectRedis, type RedisConnection } from '../../../shared/queue/redis-connection.js';
import type { BlobRef, BlobStore } from '../../../shared/storage/blob-store.js';
import { RedisBlobStore } from '../../../shared/storage/redis-blob-store.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { openedOnce } from '../../fixtures/opened.js';
import { logisticExecutor } from '../../fixtures/queue/logistic-executor.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig, tinyRun } from '../../fixtures/training/training-run.js';

const redis = openedOnce(redisForTest);
let connection: RedisConnection;
beforeAll(async () => {
  connection = await connectRedis({ url: redis.url, role: 'producer' });
});
afterAll(() => connection.disconnect());

const OUTER_STEPS = 4;

/** The store also has bags, so that both kinds of table are present. */
const smallStore = tinyTaskStore({ bags: [{ rowCount: 40, lengthMax: 3 }] });

/** The same ids in tables with `factor` times as many rows. */
function storeWithTables(factor: number): TaskStore {
  const features = smallStore.manifest.features.map((feature) =>
    'rowCount' in feature ? { ...feature, rowCount: factor * feature.rowCount } : feature,
  );
  return { ...smallStore, manifest: { ...smallStore.manifest, features } };
}

function configWith(tasksPerOuterStep: number): RunConfig {
  return logisticConfig({
    outerSteps: OUTER_STEPS,
    tasksPerOuterStep,
    leavesPerOuterStepMin: 4,
    checkpointEveryOuterSteps: OUTER_STEPS,
  });
}

async function trafficOf(config: RunConfig, store: TaskStore, prefix: string) {
  const queue = redisQueue(redis.url, prefix);
  const limits = queueConfig({ prefix });
  const { blobByteCountMax, blobLifetimeMs: lifetimeMs } = limits;
  const options = { redis: connection, prefix, lifetimeMs, blobByteCountMax };
  const ofCoordinator = new RedisBlobStore(options);
  const ofWorker = new RedisBlobStore(options);
  const blobByteCounts: number[] = [];
  const noting = (blobs: BlobStore): BlobStore => ({
    put: async (bytes): Promise<BlobRef> => {
      blobByteCounts.push(bytes.byteLength);
      return blobs.put(bytes);
    },
    get: (ref) => blobs.get(ref),
    has: (ref) => blobs.has(ref),
    delete: (ref) => blobs.delete(ref),
  });
  const { dispatcher } = await dispatcherInTest(queue, limits, {
    runId: 'tiny-run',
    blobs: noting(ofCoordinator),
  });
  const worker = workerInTest(queue, logisticExecutor(store), { blobs: noting(ofWorker) });
  await worker.ready;
  const { options: run, events } = tinyRun(config, { dispatcher }, store);
  await train(run);
  await worker.stop();
  await dispatcher.close();
  return {
    coordinator: { written: ofCoordinator.bytesWritten, read: ofCoordinator.bytesRead },
    worker: { written: ofWorker.bytesWritten, read: ofWorker.bytesRead },
    blobByteCounts: blobByteCounts.sort((a, b) => a - b),
    losses: events.flatMap((event) => (event.kind === 'outer-step' ? [event.queryLoss] : [])),
  };
}

test('two times and a thousand times the table rows cost no additional byte', async () => {
  const config = configWith(6);
  const single = await trafficOf(config, storeWithTables(1), '{single}');
  expect(single.losses).toHaveLength(OUTER_STEPS);
  expect(single.coordinator.written).toBeGreaterThan(0);
  expect(await trafficOf(config, storeWithTables(2), '{double}')).toEqual(single);
  expect(await trafficOf(config, storeWithTables(1000), '{thousand}')).toEqual(single);
});

test('a worker reads only the dense variables of each step and the rows its jobs touch', async () => {
  for (const tasksPerOuterStep of [2, 8]) {
    const config = configWith(tasksPerOuterStep);
    const { worker } = await trafficOf(config, smallStore, `{tasks-${tasksPerOuterStep}}`);
    expect(worker.read).toBe(await expectedByteCount(config));
  }
});

async function expectedByteCount(config: RunConfig): Promise<number> {
  const spec = modelSpecOf(config.model, smallStore.manifest.features);
  const dense = encodeDense(initialMetaParameters(spec, config.seed)).byteLength;
  const planner = stepPlanner(config, smallStore);
  let byteCount = 0;
  for (let outerStep = 0; outerStep < OUTER_STEPS; outerStep += 1) {
    const plan = await planner.take(outerStep);
    // The closed form takes no time, so that is the pace after the first outer step.
    const shares = { workerCount: 1, msPerCost: outerStep === 0 ? null : 0 };
    const packs = cutIntoDeliveries(plan.leaves, shares).map((delivery) => {
      const { rowCount } = layoutOf(plan, delivery);
      // A row of a logistic table is its linear weight.
      const rows = { shape: [rowCount, 1], values: new Float32Array(rowCount) };
      return encodeTensors(new Map([['rows', rows]]));
    });
    byteCount += dense + packs.reduce((sum, pack) => sum + pack.byteLength, 0);
  }
  return byteCount;
}
