/**
 * The job queue on Redis, by BullMQ: the connections, then the worker's end, a stock `Worker` that is paused whenever it
 * has taken the job that was asked for, then the coordinator's end, which adds and reads jobs and looks for stalled
 * ones. Keys are those of BullMQ under the given prefix.
 */

import type * as bullmq from 'bullmq';
import { createRequire } from 'node:module';
import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { redactedAddress } from '../base/redacted-address.js';
import {
  type BlobLimits,
  type JobConsumer,
  type JobProcessor,
  type JobProducer,
  type JobQueue,
  type JobRecord,
  type OpenConsumerOptions,
  type QueueController,
  type TakeTerms,
  WAKE_ALL,
  type WakeUp,
} from './job-queue.js';
import {
  INNER_LOOP_QUEUE,
  isLeftover,
  type JobResult,
  QUEUED_BYTE_COUNT_MAX,
  startOf,
} from './protocol.js';
import { WORKER_LOST, formatJobFailure, mayPass } from './queue-errors.js';
import {
  type QueueCall,
  type RedisConnection,
  type RedisRole,
  checkRedis,
  connectRedis,
  isOfChangedRole,
  queueCallsAt,
  queueErrorOf,
} from './redis-connection.js';
import { redisWorkerRegistry } from './redis-registry.js';
import { RedisRunLease, redisRunController } from './redis-run-lease.js';
import {
  ANSWER_TIMEOUT_MS,
  FINISHED_COUNT_MAX,
  LOCK_DURATION_MS,
  LOCK_RENEWAL_INTERVAL_MS,
  STALLED_INTERVAL_MS,
  TAKE_WAIT_MS_MAX,
} from './timing.js';
import type { BlobStore } from '../storage/blob-store.js';
import { RedisBlobStore } from '../storage/redis-blob-store.js';
import type { TlsFiles } from '../storage/tls-files.js';

interface BullmqJobQueueOptions {
  readonly redisUrl: string;
  /** In braces, so that all keys are in one slot of a cluster: `{qianmo}`. */
  readonly prefix: string;
  readonly clock: Clock;
  readonly tls?: TlsFiles | null;
}

export function bullmqJobQueue(options: BullmqJobQueueOptions): JobQueue {
  return {
    address: redactedAddress(options.redisUrl),
    openProducer: (start) => openProducer(options, start),
    openConsumer: (consumer) => openConsumer(options, consumer),
    openController: () => openController(options),
  };
}

async function openProducer(
  { redisUrl: url, prefix, clock, tls = null }: BullmqJobQueueOptions,
  start: string,
): Promise<JobProducer> {
  // A lost connection shows where it matters: in the commands that fail.
  const onError = (): void => undefined;
  const where = redactedAddress(url);
  const call = queueCallsAt(where);
  const opened: RedisConnection[] = [];
  const connect = async (role: RedisRole, name: string): Promise<RedisConnection> => {
    const redis = await connectRedis({ url, tls, onError, role, name });
    opened.push(redis);
    return redis;
  };
  const disconnect = (): void => {
    for (const connection of opened) connection.disconnect();
  };
  try {
    const commands = await connect('producer', 'qianmo-coordinator');
    const facts = await call(() => checkRedis(commands));
    // It waits for a server that is away, for the stalled check.
    const checks = await connect('checks', 'qianmo-checks');
    // BullMQ checks nothing, and says nothing, when it may not do this.
    await call(() => checks.client('SETNAME', 'qianmo-checks'));
    // It waits for a server that is away, too.
    const wakeUps = await connect('wake-ups', 'qianmo-wake-ups');
    const bullmq = { prefix, skipVersionCheck: facts === null };
    const { queue, checker } = queueAndChecker({ commands, checks }, bullmq);
    const [subscribe] = await call(() =>
      Promise.all([
        wakeUpsOver(wakeUps, wakeUpChannelOf(prefix, start), [commands, wakeUps]),
        queue.waitUntilReady(),
        checker.waitUntilReady(),
      ]),
    );
    await call(() => checker.startStalledCheckTimer());
    const closing = new AbortController();
    void keepAnswering(wakeUps, clock, closing.signal);
    const registry = redisWorkerRegistry(commands, prefix);
    const lease = new RedisRunLease(commands, prefix, where);
    return {
      takeLease: (runId, holder, over) => call(() => lease.take(runId, holder, over)),
      renewLease: (holder) => call(() => lease.renew(holder)),
      releaseLease: (end) => call(() => lease.release(end)),
      add: (jobs) => call(() => addJobs(queue, lease, jobs)),
      read: (jobId) => call(() => recordOf(queue, commands, jobId)),
      remove: async (jobIds) => {
        await removed(queue, jobIds);
      },
      removeLeftovers: (runId, epoch) => call(() => removeWaitingOfRun(queue, runId, epoch)),
      workers: () => call(() => registry.workers()),
      quarantine: (worker, durationMs) => call(() => registry.quarantine(worker, durationMs)),
      ...{ blobs: blobsOver(commands, prefix, call), subscribe },
      close: async () => {
        closing.abort();
        const closed = [checker.close(true), queue.close()];
        await settledInTime(closed, clock, PRODUCER_CLOSE_TIMEOUT_MS);
        disconnect();
      },
    };
  } catch (error) {
    disconnect();
    throw error;
  }
}

function queueAndChecker(
  { commands, checks: connection }: Readonly<Record<'commands' | 'checks', RedisConnection>>,
  bullmq: { readonly prefix: string; readonly skipVersionCheck: boolean },
): { readonly queue: bullmq.Queue; readonly checker: bullmq.Worker } {
  const queue = new Queue(INNER_LOOP_QUEUE, {
    ...{ connection: commands, ...bullmq, defaultJobOptions: JOB_OPTIONS },
    streams: { events: { maxLen: EVENT_COUNT_MAX } },
  });
  const checker = new Worker(INNER_LOOP_QUEUE, null, { connection, ...bullmq, ...CHECKER_OPTIONS });
  // Connection errors show in the commands that fail; without a listener they would end the
  // process.
  queue.on('error', () => undefined);
  checker.on('error', () => undefined);
  return { queue, checker };
}

async function addJobs(
  queue: bullmq.Queue,
  lease: RedisRunLease,
  jobs: Parameters<JobProducer['add']>[0],
): Promise<void> {
  const added = jobs.map(({ jobId, job }) => ({
    ...{ name: job.work.kind, data: job, opts: { jobId } },
  }));
  const [first] = added;
  // A transaction copies every script of the connection.
  const add = (): Promise<unknown> =>
    first !== undefined && added.length === 1
      ? queue.add(first.name, first.data, first.opts)
      : queue.addBulk(added);
  const jobIds = jobs.map(({ jobId }) => jobId);
  if (lease.isHeld) await lease.addUnder(add, () => removed(queue, jobIds));
  else await add();
}

/** Closing waits for replies of a server that may be away, without an end. */
async function settledInTime(
  closing: readonly Promise<unknown>[],
  clock: Clock,
  timeoutMs: number,
): Promise<void> {
  const inTime = new AbortController();
  await Promise.race([Promise.allSettled(closing), clock.sleep(timeoutMs, inTime.signal)]);
  inTime.abort();
}

async function openConsumer(
  { redisUrl: url, prefix, clock, tls = null }: BullmqJobQueueOptions,
  { onReconnected, ...identity }: OpenConsumerOptions,
): Promise<JobConsumer> {
  const { name, nonce: instance, device, process, onError, report = () => null } = identity;
  const redis = await connectRedis({
    ...{ url, tls, role: 'worker', name: `qianmo-worker-${name}`, onError },
  });
  redis.on('ready', onReconnected);
  try {
    const where = redactedAddress(url);
    const call = queueCallsAt(where);
    const facts = await call(() => checkRedis(redis));
    const registry = redisWorkerRegistry(redis, prefix);
    const self = await call(() => registry.enter({ name, instance, device, report: report() }));
    // A worker that may not send messages would be read late, and nobody would know why.
    await call(() => redis.publish(wakeUpChannelOf(prefix, ''), ''));
    const underWay = new JobsUnderWay(clock);
    const worker = new Worker<unknown, JobResult>(
      INNER_LOOP_QUEUE,
      (job, token, signal) =>
        underWay.watch(job.id ?? '', () =>
          processed(job, token, signal ?? new AbortController().signal, process),
        ),
      {
        ...{ connection: redis, prefix, skipVersionCheck: facts === null, name: self.name },
        ...WORKER_OPTIONS,
      },
    );
    const taking = new Taking(worker, clock);
    worker.on('error', (error) => {
      const known = queueErrorOf(error, where);
      if (mayPass(known)) taking.retryLater();
      onError(known instanceof Error ? known : error);
    });
    worker.on('lockRenewalFailed', (jobIds) => {
      for (const jobId of jobIds) worker.cancelJob(jobId, 'its lock is lost');
    });
    // Wakes the coordinator of each job that ends, with its result.
    const end = (jobId: string, message: { readonly returnValue?: unknown }): void => {
      underWay.end(jobId);
      const channel = wakeUpChannelOf(prefix, startOf(jobId));
      // A message that is lost costs the coordinator a moment.
      redis.publish(channel, wakeUpText({ jobId, ...message })).catch(() => undefined);
    };
    worker.on('completed', ({ id = '' }, returnValue) => end(id, { returnValue }));
    worker.on('failed', (job) => end(job?.id ?? '', {}));
    return {
      server: facts?.version ?? 'redis of unknown version',
      name: self.name,
      blobs: blobsOver(redis, prefix, call),
      takeOne: (how) => taking.begin(how),
      pause: () => taking.end(),
      beat: (jobId) => call(() => registry.beat({ ...self, jobId, report: report() })),
      quarantinedMs: () => call(() => registry.quarantinedMs(self.name)),
      stop: async () => {
        taking.stop();
        await underWay.ended();
      },
      close: async () => {
        taking.stop();
        const closed = [registry.leave(self.instance), worker.close(true)];
        await settledInTime(closed, clock, CLOSE_TIMEOUT_MS);
        redis.disconnect();
      },
    };
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

async function openController({
  redisUrl: url,
  prefix,
  tls = null,
}: BullmqJobQueueOptions): Promise<QueueController> {
  const redis = await connectRedis({ url, role: 'producer', name: 'qianmo-control', tls });
  const where = redactedAddress(url);
  const call = queueCallsAt(where);
  const { find, endOf, cancel } = redisRunController(redis, prefix, where);
  const registry = redisWorkerRegistry(redis, prefix);
  return {
    workers: () => call(() => registry.workers()),
    find: (runId) => call(() => find(runId)),
    endOf: (runId, start) => call(() => endOf(runId, start)),
    cancel: (runId, cancellation) => call(() => cancel(runId, cancellation)),
    close: () => {
      redis.disconnect();
      return Promise.resolve();
    },
  };
}

function blobsOver(
  redis: RedisConnection,
  prefix: string,
  call: QueueCall,
): (limits: BlobLimits) => BlobStore {
  return ({ large, ...limits }) => {
    if (large !== undefined) throw new Error('a queue on Redis alone has no place for large blobs');
    const store = new RedisBlobStore({ redis, prefix, ...limits });
    return {
      put: (bytes, ref) => call(() => store.put(bytes, ref)),
      get: (ref) => call(() => store.get(ref)),
      has: (ref) => call(() => store.has(ref)),
      delete: (ref) => call(() => store.delete(ref)),
    };
  };
}

// The CommonJS form of the library loads in half the time.
const { Queue, UnrecoverableError, WaitingError, Worker } = createRequire(import.meta.url)(
  'bullmq',
) as typeof bullmq;

const METRICS_MINUTES_KEPT = 24 * 60;
/** What a worker waits for a server that may be away; the connection ends regardless. */
const FINISH_TIMEOUT_MS = 3_000;
const CLOSE_TIMEOUT_MS = 500;
/** The pause before a server that is full or away is asked for a job again. */
const RETRY_DELAY_MS = 500;

const WORKER_OPTIONS = {
  autorun: false,
  drainDelay: TAKE_WAIT_MS_MAX / 1_000,
  lockDuration: LOCK_DURATION_MS,
  lockRenewTime: LOCK_RENEWAL_INTERVAL_MS,
  // Producers look for stalled jobs. Many workers doing the same would gain nothing.
  skipStalledCheck: true,
  // A lock would end during the default of 15 s.
  runRetryDelay: RETRY_DELAY_MS,
  metrics: { maxDataPoints: METRICS_MINUTES_KEPT },
};

type QueuedJob = bullmq.Job<unknown, JobResult>;

/** The jobs of a worker, until the server has their result or their failure. */
class JobsUnderWay {
  readonly #clock: Clock;
  readonly #processing = new Set<Promise<JobResult>>();
  /** Jobs that have been processed, and whose end is on its way to the server. */
  readonly #ending = new Set<string>();
  #noneLeft = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async watch(jobId: string, process: () => Promise<JobResult>): Promise<JobResult> {
    const processing = process();
    this.#processing.add(processing);
    try {
      const result = await processing;
      this.#ending.add(jobId);
      return result;
    } catch (error) {
      // A job that was handed back has no end.
      if (!(error instanceof WaitingError)) this.#ending.add(jobId);
      throw error;
    } finally {
      this.#processing.delete(processing);
    }
  }

  end(jobId: string): void {
    this.#ending.delete(jobId);
    if (this.#ending.size === 0) this.#noneLeft.abort();
  }

  /** Waits for what is processed, and then a moment for the server, which may be away. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#processing);
    if (this.#ending.size === 0) return;
    this.#noneLeft = new AbortController();
    await this.#clock.sleep(FINISH_TIMEOUT_MS, this.#noneLeft.signal);
  }
}

/** Lets the worker of the library take one job at a time. */
class Taking {
  readonly #worker: bullmq.Worker<unknown, JobResult>;
  readonly #clock: Clock;
  /** Null while no job is wanted. */
  #wanted: TakeTerms | null = null;
  #isRetrying = false;
  #isStopped = false;

  constructor(worker: bullmq.Worker<unknown, JobResult>, clock: Clock) {
    this.#worker = worker;
    this.#clock = clock;
    worker.on('active', ({ deferredFailure }) => {
      // The library fails a job that has lost its worker by itself, and goes on.
      if (!deferredFailure) this.end();
    });
    worker.on('drained', () => {
      if (this.#wanted?.waits === false) this.end();
    });
  }

  begin(how: TakeTerms): void {
    if (this.#wanted?.waits === true || this.#isStopped) return;
    this.#wanted = how;
    // With one slot, the script that finishes a job takes the next one.
    this.#worker.concurrency = how.heldMax;
    void this.#worker.resume();
  }

  end(): void {
    this.#wanted = null;
    // The library stops at once, and does not wait for jobs under way.
    void this.#worker.pause(true);
  }

  stop(): void {
    this.#isStopped = true;
    this.end();
  }

  /** The library itself would try again at once, and again. */
  retryLater(): void {
    const wanted = this.#wanted;
    if (wanted === null || this.#isRetrying) return;
    this.end();
    this.#isRetrying = true;
    void this.#clock.sleep(RETRY_DELAY_MS).then(() => {
      this.#isRetrying = false;
      this.begin(wanted);
    });
  }
}

/** @throws Error that the library turns into the failure of the job, or into nothing. */
async function processed(
  queued: QueuedJob,
  token: string | undefined,
  lost: AbortSignal,
  process: JobProcessor,
): Promise<JobResult> {
  const { id: jobId = '', data } = queued;
  const outcome = await process({ jobId, data }, lost);
  switch (outcome.kind) {
    case 'completed':
      return outcome.result;
    case 'failed':
      // Nobody but the coordinator decides about another delivery.
      throw new UnrecoverableError(formatJobFailure(outcome.failure));
    case 'handed-back':
      await queued.moveToWait(token);
      throw new WaitingError();
    case 'lost':
      throw new WaitingError();
  }
}

const PRODUCER_CLOSE_TIMEOUT_MS = 2_000;
/** The number of events kept in the queue's stream. Nobody reads them here. */
const EVENT_COUNT_MAX = 10_000;
const FINISHED_KEPT = { count: FINISHED_COUNT_MAX };

const JOB_OPTIONS: bullmq.JobsOptions = {
  // One delivery per id: the dispatcher retries under the next id, so that every reason is seen
  // and every bound is in one place.
  attempts: 1,
  removeOnComplete: FINISHED_KEPT,
  removeOnFail: FINISHED_KEPT,
  sizeLimit: QUEUED_BYTE_COUNT_MAX,
  stackTraceLimit: 5,
};

const CHECKER_OPTIONS = {
  name: 'stalled-checker',
  autorun: false,
  lockDuration: LOCK_DURATION_MS,
  stalledInterval: STALLED_INTERVAL_MS,
  // The first loss of its worker fails a delivery.
  maxStalledCount: 0,
};

/**
 * Hears the messages of workers that have finished a job.
 *
 * @param returning connections after whose return messages may have been missed.
 */
async function wakeUpsOver(
  connection: RedisConnection,
  channel: string,
  returning: readonly RedisConnection[],
): Promise<JobProducer['subscribe']> {
  const listeners = new Set<WakeUp>();
  const wake: WakeUp = (jobId, record) => {
    for (const listener of listeners) listener(jobId, record);
  };
  connection.on('message', (_channel: string, text: string) => {
    const message = wakeUpOf(text);
    if (message === null) return;
    const { jobId, returnValue } = message;
    if (returnValue === undefined) wake(jobId);
    else wake(jobId, { state: 'completed', returnValue, worker: '' });
  });
  for (const one of returning) one.on('ready', () => wake(WAKE_ALL));
  await connection.subscribe(channel);
  return (listener) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };
}

/**
 * The message that tells a coordinator that one of its jobs has finished, over a channel of Redis. A message may be
 * lost: the record of the job is the truth. BullMQ's own events would go to every coordinator of the queue, which
 * would parse the results of all runs.
 */

const WakeUpSchema = z.strictObject({
  jobId: z.string(),
  /** The result, as the queue keeps it; absent when the job failed. */
  returnValue: z.unknown().optional(),
});
type WakeUpMessage = z.infer<typeof WakeUpSchema>;

/**
 * @param prefix of the queue's keys; a user with few rights may use the channels below it.
 * @param start the nonce of the start that hears the channel
 */
function wakeUpChannelOf(prefix: string, start: string): string {
  return `${prefix}:wake-ups:${start}`;
}

function wakeUpText(message: WakeUpMessage): string {
  return JSON.stringify(message);
}

/** Null for anything else that somebody has sent. */
function wakeUpOf(text: string): WakeUpMessage | null {
  try {
    return WakeUpSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** A connection that only listens would never notice that the server is silent. */
async function keepAnswering(
  connection: RedisConnection,
  clock: Clock,
  closed: AbortSignal,
): Promise<void> {
  while (!closed.aborted) {
    await clock.sleep(ANSWER_TIMEOUT_MS / 2, closed);
    if (connection.status === 'ready') connection.ping().catch(() => undefined);
  }
}

/** Reads little of an open job: its data are large, and there may be many. */
async function recordOf(
  queue: bullmq.Queue,
  redis: RedisConnection,
  jobId: string,
): Promise<JobRecord> {
  const fields = ['timestamp', 'finishedOn', 'pb', 'defa'];
  const [addedMs, finishedMs, holder = null, loss] = await redis.hmget(
    queue.toKey(jobId),
    ...fields,
  );
  if (addedMs === null) return { state: 'gone' };
  // The worker that finds a job without its worker is none that held it.
  if (finishedMs === null) return { state: 'open', holder: loss === null ? holder : null };
  const job = await queue.getJob(jobId);
  if (job === undefined) return { state: 'gone' };
  const worker = job.processedBy ?? '';
  // The field of a completed job may hold an empty text.
  if (!job.failedReason) return { state: 'completed', returnValue: job.returnvalue, worker };
  // The library itself fails a job that has lost its worker, in words of its own.
  const isLost = job.stalledCounter > 0;
  if (isLost) return { state: 'failed', reason: formatJobFailure(WORKER_LOST), worker };
  // It also fails a job whose result a server refused that had become a replica. The job itself did not fail.
  const isRefused = isOfChangedRole(new Error(job.failedReason));
  const reason = isRefused
    ? formatJobFailure({ kind: 'worker-lost', reason: `no result arrived: ${job.failedReason}` })
    : job.failedReason;
  return { state: 'failed', reason, worker };
}

const PAGE_COUNT = 1_000;
const WAITING: bullmq.JobType[] = ['wait', 'delayed', 'prioritized'];

/** Removes the waiting jobs of a run that have an earlier epoch, or none, and returns their number. */
async function removeWaitingOfRun(
  queue: bullmq.Queue,
  runId: string,
  epoch: number,
): Promise<number> {
  const ids: string[] = [];
  for (let start = 0; ; start += PAGE_COUNT) {
    const page = await queue.getJobs(WAITING, start, start + PAGE_COUNT - 1);
    for (const job of page)
      if (isLeftover(job.data, runId, epoch) && job.id !== undefined) ids.push(job.id);
    if (page.length === 0) break;
  }
  return removed(queue, ids);
}

/** A job that a worker holds is not removed. */
async function removed(queue: bullmq.Queue, ids: readonly string[]): Promise<number> {
  await Promise.allSettled(ids.map((id) => queue.remove(id)));
  return ids.length;
}
