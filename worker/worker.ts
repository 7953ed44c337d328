/**
 * A worker: takes jobs of any run from the queue, one at a time, has them computed by the executor
 * and returns the records. Holds nothing that matters and never imports a tensor library: the
 * process that talks to Redis must always be free to renew its lock.
 */

import { UnrecoverableError, WaitingError, Worker, type Job as QueuedJob } from 'bullmq';
import type { Clock } from '../shared/clock.js';
import { QianmoError } from '../shared/errors.js';
import type { JobExecutor } from '../shared/job-executor.js';
import { formatJobFailure } from '../shared/job-failure.js';
import { INNER_LOOP_QUEUE, type JobResult } from '../shared/protocol.js';
import {
  LOCK_DURATION_MS,
  STALLED_INTERVAL_MS,
  STALLS_PER_DELIVERY_MAX,
} from '../shared/queue-timing.js';
import {
  checkRedis,
  connectRedis,
  redactedRedisUrl,
  type RedisConnection,
} from '../shared/redis-connection.js';
import type { BlobStore } from '../shared/storage/blob-store.js';
import { RedisBlobStore } from '../shared/storage/redis-blob-store.js';
import { carryJob, ExecutorStuckError, JobFailedError, type JobCarrier } from './carry-job.js';
import { InputCache } from './input-cache.js';

/** Dense inputs kept in memory; two outer steps of a large trunk. */
const DENSE_CACHE_BYTE_COUNT_MAX = 512 * 1024 * 1024;
/** Beyond any `queue.blobByteCountMax` that makes sense: the run's own limit is the coordinator's. */
const BLOB_BYTE_COUNT_MAX = 2 ** 31 - 1;
const BLOB_LIFETIME_MS = 3_600_000;
/** A worker that cannot hand its job back in this time goes all the same: the lock will end. */
const STOP_TIMEOUT_MS = 5_000;
/** Wait before asking a Redis that was away again; BullMQ's default is 15 s. */
const RETRY_DELAY_MS = 500;
const DRAIN_DELAY_S = 5;
const METRICS_MINUTES_KEPT = 24 * 60;

export type WorkerEvent =
  | { readonly kind: 'ready'; readonly worker: string; readonly redis: string }
  | { readonly kind: 'job-started'; readonly jobId: string }
  | { readonly kind: 'job-finished'; readonly jobId: string; readonly computeMs: number }
  | { readonly kind: 'job-failed'; readonly jobId: string; readonly reason: string }
  | { readonly kind: 'job-handed-back'; readonly jobId: string }
  | { readonly kind: 'redis-trouble'; readonly reason: string }
  | { readonly kind: 'stopped'; readonly worker: string };

export interface RunWorkerOptions {
  readonly redisUrl: string;
  /** In braces: `{qianmo}`. */
  readonly prefix: string;
  /** Shown on the queue board and in results. */
  readonly name: string;
  /** Belongs to the caller, who closes it. */
  readonly executor: JobExecutor;
  readonly clock: Clock;
  /** Ends the worker: the job under way goes back to the queue. */
  readonly signal: AbortSignal;
  readonly onEvent?: (event: WorkerEvent) => void;
  /** Redis by default. */
  readonly blobs?: BlobStore;
  readonly blobByteCountMax?: number;
  readonly blobLifetimeMs?: number;
}

/**
 * Runs until the signal aborts.
 *
 * @throws QianmoError `environment` when Redis is down at the start or may evict keys, `failed` when
 *   the executor no longer obeys; the process should then end.
 */
export async function runWorker(options: RunWorkerOptions): Promise<void> {
  const { redisUrl: url, name, onEvent = () => undefined } = options;
  let lastTrouble = '';
  const onError = (error: Error): void => {
    // A lost Redis repeats the same words several times a second, until it is back.
    if (error.message === lastTrouble) return;
    lastTrouble = error.message;
    onEvent({ kind: 'redis-trouble', reason: error.message });
  };
  const redis = await connectRedis({ url, role: 'worker', name: `qianmo-worker-${name}`, onError });
  redis.on('ready', () => {
    lastTrouble = '';
  });
  try {
    const { version } = await checkRedis(redis);
    onEvent({ kind: 'ready', worker: name, redis: `${version} at ${redactedRedisUrl(url)}` });
    await workUntilStopped(options, redis, onEvent, onError);
    onEvent({ kind: 'stopped', worker: name });
  } finally {
    redis.disconnect();
  }
}

async function workUntilStopped(
  options: RunWorkerOptions,
  redis: RedisConnection,
  onEvent: (event: WorkerEvent) => void,
  onError: (error: Error) => void,
): Promise<void> {
  const { clock, prefix, name, signal } = options;
  const carrier = carrierOf(options, redis);
  const stop = stopSwitch(signal);
  const worker = new Worker<unknown, JobResult>(
    INNER_LOOP_QUEUE,
    // The third parameter must be declared: BullMQ counts them to know that jobs can be cancelled.
    (job, token, jobSignal) => carried(job, token, jobSignal, { carrier, stop, onEvent }),
    {
      connection: redis,
      prefix,
      name,
      concurrency: 1,
      drainDelay: DRAIN_DELAY_S,
      lockDuration: LOCK_DURATION_MS,
      stalledInterval: STALLED_INTERVAL_MS,
      maxStalledCount: STALLS_PER_DELIVERY_MAX,
      // The coordinators look for stalled jobs; with N workers doing it too nothing is won.
      skipStalledCheck: true,
      runRetryDelay: RETRY_DELAY_MS,
      metrics: { maxDataPoints: METRICS_MINUTES_KEPT },
    },
  );
  worker.on('error', onError);
  // Without its lock the job is somebody else's, or gone: computing on is waste.
  worker.on('lockRenewalFailed', (jobIds) => {
    for (const jobId of jobIds) worker.cancelJob(jobId, 'its lock is lost');
  });
  await stop.stopped;
  await closed(worker, clock, stop);
  if (stop.failure !== undefined) throw stop.failure;
}

function carrierOf(options: RunWorkerOptions, redis: RedisConnection): JobCarrier {
  const blobs =
    options.blobs ??
    new RedisBlobStore({
      redis,
      prefix: options.prefix,
      lifetimeMs: options.blobLifetimeMs ?? BLOB_LIFETIME_MS,
      blobByteCountMax: options.blobByteCountMax ?? BLOB_BYTE_COUNT_MAX,
    });
  return {
    blobs,
    denseInputs: new InputCache(blobs, DENSE_CACHE_BYTE_COUNT_MAX),
    executor: options.executor,
    clock: options.clock,
    workerName: options.name,
  };
}

/** Stopping has two reasons: a request from outside, or an executor that no longer obeys. */
interface StopSwitch {
  readonly stopped: Promise<void>;
  readonly signal: AbortSignal;
  failure: QianmoError | undefined;
  fail(failure: QianmoError): void;
}

function stopSwitch(request: AbortSignal): StopSwitch {
  const controller = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    controller.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (request.aborted) controller.abort();
  request.addEventListener('abort', () => controller.abort(), { once: true });
  const stop: StopSwitch = {
    stopped,
    signal: controller.signal,
    failure: undefined,
    fail: (failure) => {
      stop.failure = failure;
      controller.abort();
    },
  };
  return stop;
}

async function carried(
  queued: QueuedJob<unknown, JobResult>,
  token: string | undefined,
  jobSignal: AbortSignal | undefined,
  at: {
    readonly carrier: JobCarrier;
    readonly stop: StopSwitch;
    readonly onEvent: (event: WorkerEvent) => void;
  },
): Promise<JobResult> {
  const { carrier, stop, onEvent } = at;
  const jobId = queued.id ?? '';
  const giveUp = new AbortController();
  const onGiveUp = (): void => giveUp.abort();
  const sources = jobSignal === undefined ? [stop.signal] : [stop.signal, jobSignal];
  for (const source of sources) {
    if (source.aborted) onGiveUp();
    source.addEventListener('abort', onGiveUp, { once: true });
  }
  onEvent({ kind: 'job-started', jobId });
  try {
    const result = await carryJob(queued.data, carrier, giveUp.signal);
    onEvent({ kind: 'job-finished', jobId, computeMs: result.computeMs });
    return result;
  } catch (error) {
    if (error instanceof ExecutorStuckError) stop.fail(stuck(error));
    if (stop.signal.aborted) {
      await queued.moveToWait(token);
      onEvent({ kind: 'job-handed-back', jobId });
      throw new WaitingError();
    }
    if (!(error instanceof JobFailedError)) throw error;
    const text = formatJobFailure(error.failure);
    onEvent({ kind: 'job-failed', jobId, reason: text });
    // BullMQ keeps the text alone, and tells errors apart by the exact class.
    throw error.failure.kind === 'permanent' ? new UnrecoverableError(text) : new Error(text);
  } finally {
    for (const source of sources) source.removeEventListener('abort', onGiveUp);
  }
}

function stuck(cause: ExecutorStuckError): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'the executor did not stop when told to, so this worker ends',
    cause,
  });
}

/** `Worker.close` waits for the active job without a limit; this does not. */
async function closed(worker: Worker, clock: Clock, stop: StopSwitch): Promise<void> {
  const inTime = new AbortController();
  const politely = async (): Promise<void> => {
    // Without this a job that ends now would be exchanged for the next one.
    await worker.pause(true);
    await worker.close();
  };
  const late = clock.sleep(STOP_TIMEOUT_MS, inTime.signal).then(() => 'late' as const);
  const outcome = await Promise.race([politely().then(() => 'closed' as const), late]);
  inTime.abort();
  if (outcome === 'closed') return;
  stop.failure ??= new QianmoError({
    kind: 'failed',
    what: `this worker could not hand its job back within ${STOP_TIMEOUT_MS} ms`,
    cure: 'nothing is to be done: the job is delivered again when its lock has ended',
  });
  void worker.close(true).catch(() => undefined);
  await clock.sleep(0);
}
