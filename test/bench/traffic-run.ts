/**
 * One metered training run: a Redis, two worker processes and checkpoints, as in `qianmo train`.
 */

import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEmbeddedRedis } from '#services/embedded-redis.mjs';
import { freshNonce } from '../../shared/base/nonce.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { superviseWorkers } from '../../coordinator/workers/worker-supervisor.js';
import type { RunContext } from '../../coordinator/runs/call/run-context.js';
import { storeAddressOf } from '../../coordinator/runs/places.js';
import { openPreparedRun } from '../../coordinator/runs/run-files.js';
import { trainedRun } from '../../coordinator/runs/train-run.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { connectRedis } from '../../shared/queue/redis-connection.js';
import { MANIFEST_FILE, StoreManifestSchema } from '../../shared/tasks/store-manifest.js';
import { trafficMeter, type StepTraffic } from './traffic-meter.js';

export interface RunTraffic {
  readonly name: string;
  readonly tableRowCount: number;
  /** Columns of a table: its factors and its linear weight. */
  readonly rowByteCount: number;
  readonly adgroupCount: number;
  readonly tasksPerOuterStep: number;
  readonly workerCount: number;
  readonly seconds: number;
  readonly retriedJobCount: number;
  /** The loss of each outer step. Equal losses mean that the runs gave the same results. */
  readonly queryLosses: readonly number[];
  readonly steps: readonly StepTraffic[];
}

/** The hashed feature whose table is doubled. */
export const DOUBLED_FEATURE = 'user';

const WORKER_ENTRY = fileURLToPath(new URL('../../worker/main.js', import.meta.url));
const WORKER_COUNT = 2;

export async function meteredRun(
  name: string,
  config: RunConfig,
  context: RunContext,
): Promise<RunTraffic> {
  const { clock } = context;
  const closers: (() => Promise<unknown>)[] = [];
  try {
    const dataDir = await mkdtemp(join(tmpdir(), 'qianmo-traffic-redis-'));
    closers.push(() => rm(dataDir, { recursive: true, force: true }));
    const server = await startEmbeddedRedis({ dataDir });
    closers.push(() => server.stop());
    const redis = await connectRedis({ url: server.url, role: 'producer', name: 'traffic-meter' });
    closers.push(() => redis.quit());
    const { prefix, blobLifetimeMs: lifetimeMs, blobByteCountMax } = config.queue;
    const meter = trafficMeter({ redis, prefix, lifetimeMs, blobByteCountMax }, redis);

    const queryLosses: number[] = [];
    let retriedJobCount = 0;
    const sink: RunContext['sink'] = (event) => {
      if (event.kind === 'outer-step') queryLosses.push(event.queryLoss);
      if (event.kind === 'job-retried') retriedJobCount += 1;
      context.sink(event);
    };
    const dispatcher = await createQueueDispatcher({
      queue: bullmqJobQueue({ redisUrl: server.url, prefix, clock }),
      ...{ limits: config.queue, runId: config.run, nonce: freshNonce(), clock, sink },
      blobs: meter.blobs,
    });
    closers.push(() => dispatcher.close());
    const workers = superviseWorkers({
      count: WORKER_COUNT,
      command: {
        path: process.execPath,
        argsOf: () => [
          ...[WORKER_ENTRY, '--redis', server.url, '--prefix', prefix],
          ...['--store-allow', storeAddressOf(config)],
        ],
        env: { ...context.environment },
      },
      ...{ clock, sink, restartsMax: 10 },
    });
    closers.push(() => workers.stop());

    const own = { ...context, sink };
    const run = await openPreparedRun(config, own);
    const startMs = clock.monotonicMs();
    await trainedRun(
      run,
      { dispatcher: meter.over(dispatcher), redisUrl: server.url },
      { resume: false, fresh: true },
      own,
    );
    return {
      name,
      tableRowCount: run.spec.tables.find((table) => table.name === DOUBLED_FEATURE)?.rowCount ?? 0,
      rowByteCount: run.spec.tableRowWidth * Float32Array.BYTES_PER_ELEMENT,
      adgroupCount: run.store.manifest.taskCount,
      tasksPerOuterStep: config.training.tasksPerOuterStep,
      workerCount: WORKER_COUNT,
      seconds: Math.round((clock.monotonicMs() - startMs) / 100) / 10,
      retriedJobCount,
      queryLosses,
      steps: meter.steps,
    };
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

/** A copy in which the feature's table has twice the rows and the ids are the same. */
export async function storeWithDoubledTable(store: string, copy: string): Promise<void> {
  await cp(store, copy, { recursive: true });
  const path = join(copy, MANIFEST_FILE);
  const manifest = StoreManifestSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  const features = manifest.features.map((feature) =>
    feature.name === DOUBLED_FEATURE && 'rowCount' in feature
      ? { ...feature, rowCount: 2 * feature.rowCount }
      : feature,
  );
  await writeFile(path, `${JSON.stringify({ ...manifest, features }, null, 2)}\n`);
}
