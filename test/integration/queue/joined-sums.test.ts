/** Workers add the sums of outer steps, on a real Redis: the same bits, and fewer bytes for the coordinator. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { train } from '../../../coordinator/training/outer-loop.js';
import { at } from '../../../shared/base/arrays.js';
import { RunConfigSchema, type RunConfig } from '../../../shared/config/run-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { connectRedis } from '../../../shared/queue/redis-connection.js';
import { BlobMissingError, type BlobStore } from '../../../shared/storage/blob-store.js';
import { RedisBlobStore } from '../../../shared/storage/redis-blob-store.js';
import { encodeSums } from '../../../shared/sums/delivered-sums.js';
import { denseCountOf } from '../../../shared/sums/gradient-node.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { LEAF_IS_A_JOB, logisticExecutor } from '../../fixtures/queue/logistic-executor.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import {
  dispatcherInTest,
  queueConfig,
  type WorkerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig, stateDigest, tinyRun } from '../../fixtures/training/training-run.js';
import { executorForTest } from '../../conformance/dispatcher.js';

const DEADLY_JOINER = fileURLToPath(
  new URL('../../../dist/test/fixtures/queue/deadly-joiner.js', import.meta.url),
);
const OUTER_STEPS = 3;
const NEVER = 2 ** 40;
const room = new QueueRoom('joins');

function configWith(
  joinedSumByteCountMin: number,
  training: Record<string, unknown>,
  part: Partial<RunConfig> = {},
): RunConfig {
  const config = logisticConfig({
    ...{ outerSteps: OUTER_STEPS, checkpointEveryOuterSteps: OUTER_STEPS },
    ...training,
  });
  return { ...config, ...part, queue: queueConfig({ joinedSumByteCountMin }) };
}

async function trained(config: RunConfig, store: TaskStore) {
  const { blobByteCountMax, blobLifetimeMs: lifetimeMs } = config.queue;
  const redis = await connectRedis({ url: room.redis.url, role: 'producer' });
  const blobs = new RedisBlobStore({ redis, prefix: room.prefix, lifetimeMs, blobByteCountMax });
  const { dispatcher, events } = await dispatcherInTest(room.queue, config.queue, {
    ...{ runId: 'tiny-run', blobs },
  });
  try {
    const { options } = tinyRun(config, { dispatcher }, store);
    const { state } = await train(options);
    const readByteCount = blobs.bytesRead / OUTER_STEPS;
    return { digest: JSON.stringify(stateDigest(state)), events, readByteCount };
  } finally {
    await dispatcher.close();
    redis.disconnect();
  }
}

function joinCountOf(workers: readonly WorkerInTest[]): number {
  const started = workers.flatMap(({ events }) =>
    events.flatMap((event) => (event.kind === 'job-started' ? [event.jobId] : [])),
  );
  return started.filter((jobId) => jobId.includes('-join-')).length;
}

async function blobCount(): Promise<number> {
  return (await room.redis.client.keys(`${room.prefix}:blob:*`)).length;
}

const store = tinyTaskStore();
const executor = (): JobExecutor => logisticExecutor(store, LEAF_IS_A_JOB);
const leaves = { tasksPerOuterStep: 20, leavesPerOuterStepMin: 20 };

describe('sums that workers add', () => {
  it.each([1, 2, 4])(
    'have the bits of those that the coordinator adds, of %i workers',
    async (count) => {
      const { options } = tinyRun(configWith(NEVER, leaves), {}, store);
      const inProcess = JSON.stringify(stateDigest((await train(options)).state));
      const workers: WorkerInTest[] = [];
      for (let place = 0; place < count; place += 1)
        workers.push(await room.worker(executor(), { name: `w${place}` }));
      expect((await trained(configWith(NEVER, leaves), store)).digest).toBe(inProcess);
      expect(joinCountOf(workers)).toBe(0);
      expect((await trained(configWith(0, leaves), store)).digest).toBe(inProcess);
      expect(joinCountOf(workers)).toBeGreaterThanOrEqual(4 * OUTER_STEPS);
      expect(await blobCount()).toBe(0);
    },
  );

  it('have them when a worker is killed that has taken a join', async () => {
    const joiner = spawn(process.execPath, [DEADLY_JOINER, room.redis.url, room.prefix]);
    const exited = once(joiner, 'exit');
    const training = trained(configWith(0, leaves), store);
    expect((await exited)[1]).toBe('SIGKILL');
    const healthy = await room.worker(executor(), { name: 'healthy' });
    const { digest, events } = await training;
    const lost = events.filter((event) => event.kind === 'job-retried');
    expect(lost.some(({ reason }) => reason.includes('lost'))).toBe(true);
    expect(digest).toBe((await trained(configWith(NEVER, leaves), store)).digest);
    expect(joinCountOf([healthy])).toBeGreaterThan(0);
  });

  it('have them when the store loses sums, which are computed again', async () => {
    const { blobByteCountMax } = queueConfig();
    const redis = await connectRedis({ url: room.redis.url, role: 'producer' });
    const blobs = new RedisBlobStore({
      ...{ redis, prefix: room.prefix, lifetimeMs: 60_000, blobByteCountMax },
    });
    let lostCount = 0;
    const forgetful: BlobStore = {
      put: (bytes) => blobs.put(bytes),
      has: (ref) => blobs.has(ref),
      delete: (ref) => blobs.delete(ref),
      get: async (ref) => {
        const bytes = await blobs.get(ref);
        // Those of a delivery, then those of a join, and its parts are gone by then.
        const isSum = Buffer.from(bytes).includes('0.ids.0');
        if (!isSum || lostCount >= 6) return bytes;
        lostCount += 1;
        await blobs.delete(ref);
        throw new BlobMissingError(ref);
      },
    };
    const made = await room.worker(executor(), { name: 'w0', blobs: forgetful });
    const { digest, events } = await trained(configWith(0, leaves), store);
    expect(lostCount).toBe(6);
    expect(events).toContainEqual(
      expect.objectContaining({
        kind: 'job-retried',
        reason: expect.stringContaining('its sums are lost') as string,
      }),
    );
    await made.stop();
    await room.worker(executor(), { name: 'w1' });
    expect((await trained(configWith(NEVER, leaves), store)).digest).toBe(digest);
    redis.disconnect();
  });
});

/** Gradients of the size of the model, each with bytes of its own. */
function sizedExecutor(tasks: TaskStore): JobExecutor {
  return executorForTest(({ job }) => {
    const { method } = job.work;
    const spec = modelSpecOf(job.model, tasks.manifest.features, method);
    const dense = new Float32Array(denseCountOf(spec)).fill(job.jobIndex + job.outerStep / 100);
    const losses = (): Float32Array => new Float32Array(job.taskIndices.length);
    const asksBefore = job.work.kind === 'gradient' && job.work.queryLossBefore === true;
    const sums = {
      nodes: [{ dense, idsByTable: [], rows: new Float32Array(0) }],
      losses: { query: losses(), support: losses(), queryBefore: asksBefore ? losses() : null },
    };
    return Promise.resolve({
      output: encodeSums(sums, spec.tableRowWidth, job.keepsSums === true),
      ...{ queryRowCount: 1, computeMs: 10 * job.taskIndices.length },
      ...{ backend: 'test', fingerprint: 'test-01234567' },
    });
  });
}

describe('the bytes that the coordinator reads', () => {
  const tasks = tinyTaskStore({ taskCount: 200, categoryRowCounts: [], numberCount: 4 });
  const wide = { tasksPerOuterStep: 64, leavesPerOuterStepMin: 64 };
  const model = RunConfigSchema.shape.model.parse({ kind: 'mlp', hiddenWidths: [128, 128] });
  const sumByteCount =
    Float32Array.BYTES_PER_ELEMENT * denseCountOf(modelSpecOf(model, tasks.manifest.features));

  it('are those of four sums with 2, 8 and 16 workers', async () => {
    const read: [workers: number, direct: number, joined: number][] = [];
    for (const count of [2, 8, 16]) {
      const workers: WorkerInTest[] = [];
      for (let place = 0; place < count; place += 1)
        workers.push(await room.worker(sizedExecutor(tasks), { name: `w${place}` }));
      const direct = await trained(configWith(NEVER, wide, { model }), tasks);
      const joined = await trained(configWith(0, wide, { model }), tasks);
      expect(joined.digest).toBe(direct.digest);
      read.push([count, direct.readByteCount, joined.readByteCount]);
      for (const each of workers) await each.stop();
    }
    for (const [, direct, joined] of read) {
      expect(joined).toBeLessThan(4.2 * sumByteCount);
      expect(joined).toBeLessThanOrEqual(direct);
    }
    // Two workers have no more than four deliveries, which are read as they are.
    expect(at(read, 0)[1]).toBe(at(read, 0)[2]);
    expect(at(read, 2)[1]).toBeGreaterThan(3 * at(read, 2)[2]);
  });
});
