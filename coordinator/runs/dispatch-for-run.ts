/**
 * Opens a dispatcher for one run: in process, on local workers of its own, or on a queue that
 * workers elsewhere serve.
 */

import { QianmoError } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { StreamConfig } from '../../shared/config/stream-config.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import { signedJobQueue } from '../../shared/signing/signed-job-queue.js';
import { signingKeyOf } from '../../shared/signing/signing-key.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import { createInMemoryDispatcher } from '../dispatch/in-memory-dispatcher.js';
import { createQueueDispatcher } from '../dispatch/queue-dispatcher.js';
import { drawnJobs } from '../trust/drawn-jobs.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import { superviseWorkers } from '../workers/worker-supervisor.js';
import type { RunContext, StorePlace } from './call/run-context.js';
import { storeAddressOf } from './run-files.js';

export interface DispatchChoice {
  /** Local workers to start and supervise; none when absent. */
  readonly workers?: number | undefined;
  /** Compute in a child process of the coordinator, without a queue. */
  readonly inProcess?: boolean | undefined;
  /** The Redis server, instead of the one in the config. */
  readonly redis?: string | undefined;
}

export interface RunDispatch {
  readonly dispatcher: Dispatcher;
  /** Null without a queue. */
  readonly redisUrl: string | null;
}

const WORKER_RESTARTS_MAX = 100;

/** Everything started here is stopped when the context closes. */
export async function dispatchForRun(
  config: RunConfig | StreamConfig,
  runId: string,
  choice: DispatchChoice,
  context: RunContext,
): Promise<RunDispatch> {
  if (choice.inProcess === true) {
    const { clock, sink } = context;
    const executor = await context.machine.startExecutor(config.compute, context);
    const dispatcher = createInMemoryDispatcher({
      executor,
      clock,
      attemptsMax: config.queue.jobAttemptsMax,
      sink,
    });
    context.onClose(() => dispatcher.close());
    return { dispatcher, redisUrl: null };
  }

  // A worker without the demanded device would be restarted forever, so the device is checked first.
  if (choice.workers !== undefined)
    await context.machine.requireDevice(config.compute.device, context);
  const [key, tls] = await Promise.all([
    signingKeyOf(context.environment),
    tlsFilesOf(context.environment),
  ]);
  const { url: redisUrl, addressFile } = await redisForRun(config, choice, context);
  const { prefix } = config.queue;
  const { device, portable } = config.compute;
  const { clock, sink, environment } = context;
  const command =
    choice.workers === undefined
      ? null
      : await context.machine.workerCommand({
          ...{ redisUrl, prefix, device, portable, environment },
          store: storePlaceOf(config),
        });
  const dispatcher = await createQueueDispatcher({
    queue: signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock, tls }), key),
    limits: config.queue,
    runId,
    nonce: freshNonce(),
    recomputes: drawnJobs(config.seed, 'trust' in config ? config.trust.recomputeShare : 0),
    signal: context.signal,
    clock,
    sink,
  });
  if (choice.workers === undefined || command === null) {
    sink({
      kind: 'workers-awaited',
      redisAddress: redactedAddress(redisUrl),
      addressFile,
      prefix,
    });
  } else {
    const workers = superviseWorkers({
      count: choice.workers,
      command,
      clock,
      sink,
      restartsMax: WORKER_RESTARTS_MAX,
    });
    context.onClose(() => workers.stop());
  }
  context.onClose(() => dispatcher.close());
  return { dispatcher, redisUrl };
}

/** The rows of a stream travel in its jobs. */
function storePlaceOf(config: RunConfig | StreamConfig): StorePlace | null {
  if (!('model' in config)) return null;
  return { address: storeAddressOf(config), endpoint: config.storage.s3Endpoint };
}

async function redisForRun(
  { queue }: Pick<RunConfig, 'queue'>,
  choice: DispatchChoice,
  context: RunContext,
): Promise<{ readonly url: string; readonly addressFile: string | null }> {
  const url = choice.redis ?? queue.redisUrl;
  if (url !== 'embedded') return { url, addressFile: null };
  try {
    const redis = await context.machine.startRedis();
    context.onClose(() => redis.stop());
    return redis;
  } catch (cause) {
    throw new QianmoError({
      kind: 'environment',
      what: 'no Redis server could be started',
      cure: 'install redis-server, name one with --redis redis://host:port, or use --in-process',
      cause,
    });
  }
}
