/**
 * Wires a dispatcher for one command: in process, on local workers of its own, or on a queue that
 * workers elsewhere serve. The only place where coordinator and worker meet.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEmbeddedRedis } from '#services/embedded-redis.mjs';
import type { Dispatcher } from '../../coordinator/dispatch/dispatcher.js';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { superviseWorkers } from '../../coordinator/workers/worker-supervisor.js';
import type { DeviceDemand, RunConfig } from '../../shared/config/run-config.js';
import { redactedRedisUrl } from '../../shared/queue/redis-connection.js';
import { QianmoError } from '../../shared/base/errors.js';
import { describeDevice } from '../../worker/process/compute-process.js';
import {
  computeEnvironment,
  countUsableGpus,
  gpuIndexOfWorker,
  listGpus,
} from '../../worker/compute/device/visible-gpus.js';
import type { CommandContext } from './command-context.js';
import { startedComputeProcess } from './started-compute-process.js';

export interface DispatchChoice {
  readonly workers?: number | undefined;
  readonly inProcess?: boolean | undefined;
  readonly redis?: string | undefined;
}

export interface RunDispatch {
  readonly dispatcher: Dispatcher;
  /** Null when nothing is queued. */
  readonly redisUrl: string | null;
}

const WORKER_ENTRY = fileURLToPath(new URL('../../worker/main.js', import.meta.url));
const WORKER_RESTARTS_MAX = 100;

/** Everything started here is stopped when the command closes its context. */
export async function dispatchForRun(
  config: RunConfig,
  runId: string,
  choice: DispatchChoice,
  context: CommandContext,
): Promise<RunDispatch> {
  const { clock, sink } = context;
  if (choice.inProcess === true) {
    const executor = await startedComputeProcess(config.compute.device, undefined, context);
    const dispatcher = createInMemoryDispatcher({
      executor,
      clock,
      attemptsMax: config.queue.jobAttemptsMax,
      sink,
    });
    context.onClose(() => dispatcher.close());
    return { dispatcher, redisUrl: null };
  }

  if (choice.workers !== undefined) await requireLocalDevice(config.compute.device, context);
  const redisUrl = await redisForRun(config, choice, context);
  const dispatcher = await createQueueDispatcher({
    redisUrl,
    queue: config.queue,
    runId,
    clock,
    sink,
  });
  if (choice.workers === undefined) {
    sink({
      kind: 'workers-awaited',
      redisAddress: redactedRedisUrl(redisUrl),
      prefix: config.queue.prefix,
    });
  } else {
    const args = [WORKER_ENTRY, '--redis', redisUrl, '--prefix', config.queue.prefix];
    args.push('--device', config.compute.device);
    const visible = context.environment['CUDA_VISIBLE_DEVICES'];
    const gpuCount = countUsableGpus(await listGpus(), visible);
    const workers = superviseWorkers({
      count: choice.workers,
      command: {
        path: process.execPath,
        argsOf: (workerIndex) => {
          const gpuIndex = gpuIndexOfWorker(workerIndex, gpuCount);
          return gpuIndex === undefined ? args : [...args, '--gpu-index', String(gpuIndex)];
        },
        env: { ...context.environment },
      },
      clock,
      sink,
      restartsMax: WORKER_RESTARTS_MAX,
    });
    context.onClose(() => workers.stop());
  }
  context.onClose(() => dispatcher.close());
  return { dispatcher, redisUrl };
}

/** Workers that are refused would start again and again; one process tells beforehand. */
async function requireLocalDevice(
  device: DeviceDemand,
  { clock, environment }: CommandContext,
): Promise<void> {
  if (device === 'auto') return;
  await describeDevice({
    clock,
    device,
    environment: computeEnvironment(environment, device, undefined),
  });
}

async function redisForRun(
  config: RunConfig,
  choice: DispatchChoice,
  context: CommandContext,
): Promise<string> {
  const url = choice.redis ?? config.queue.redisUrl;
  if (url !== 'embedded') return url;
  const dataDir = await mkdtemp(join(tmpdir(), 'qianmo-redis-'));
  context.onClose(() => rm(dataDir, { recursive: true, force: true }));
  try {
    const redis = await startEmbeddedRedis({ dataDir });
    context.onClose(() => redis.stop());
    return redis.url;
  } catch (cause) {
    throw new QianmoError({
      kind: 'environment',
      what: 'no Redis server could be started',
      cure: 'install redis-server, name one with --redis redis://host:port, or use --in-process',
      cause,
    });
  }
}
