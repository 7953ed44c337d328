/**
 * The coordinator's end of the BullMQ queue: adding and reading jobs, wake-ups, and the check for
 * stalled jobs. It decides nothing about a job's fate and retries nothing.
 */

import { createRequire } from 'node:module';
import type * as bullmq from 'bullmq';
import type { Clock } from '../base/clock.js';
import type { BlobStore } from '../storage/blob-store.js';
import {
  type BlobLimits,
  type JobProducer,
  type JobRecord,
  WAKE_ALL,
  type WakeUp,
} from './job-queue.js';
import { INNER_LOOP_QUEUE, isLeftover, QUEUED_BYTE_COUNT_MAX } from './protocol.js';
import type { RedisConnection } from './redis-connection.js';
import { isOfChangedRole, type QueueCall } from './redis-errors.js';
import { formatJobFailure, WORKER_LOST } from './queue-errors.js';
import {
  quarantineKeyOf,
  redisWorkerRegistry,
  wakeUpChannelOf,
  wakeUpOf,
} from './redis-registry.js';
import type { RedisRunLease } from './redis-run-lease.js';
import {
  ANSWER_TIMEOUT_MS,
  EVENT_COUNT_MAX,
  FINISHED_COUNT_MAX,
  LOCK_DURATION_MS,
  STALLED_INTERVAL_MS,
} from './timing.js';

// The CommonJS form of the library loads in half the time.
const { Queue, Worker } = createRequire(import.meta.url)('bullmq') as typeof bullmq;

/** BullMQ never ends its closing when the server went away before. */
const CLOSE_TIMEOUT_MS = 2_000;
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

/** They are the producer's own: it ends them when it closes. */
interface ProducerConnections {
  readonly commands: RedisConnection;
  /** Waits for a server that is away, for the stalled check. */
  readonly checks: RedisConnection;
  /** Waits for a server that is away, and hears wake-ups. */
  readonly wakeUps: RedisConnection;
}

export async function bullmqProducer(
  { commands, checks: connection, wakeUps }: ProducerConnections,
  options: {
    readonly bullmq: { readonly prefix: string; readonly skipVersionCheck: boolean };
    /** The nonce in the ids of the jobs whose wake-ups are heard. */
    readonly start: string;
    readonly clock: Clock;
    readonly call: QueueCall;
    readonly lease: RedisRunLease;
    readonly blobs: (limits: BlobLimits) => BlobStore;
  },
): Promise<JobProducer> {
  const { bullmq, start, clock, call, lease, blobs } = options;
  const { prefix } = bullmq;
  const queue = new Queue(INNER_LOOP_QUEUE, {
    ...{ connection: commands, ...bullmq, defaultJobOptions: JOB_OPTIONS },
    streams: { events: { maxLen: EVENT_COUNT_MAX } },
  });
  const checker = new Worker(INNER_LOOP_QUEUE, null, { connection, ...bullmq, ...CHECKER_OPTIONS });
  // Connection errors show in the commands that fail; without a listener they would end the
  // process.
  queue.on('error', () => undefined);
  checker.on('error', () => undefined);
  const [subscribe] = await Promise.all([
    wakeUpsOver(wakeUps, wakeUpChannelOf(prefix, start), [commands, wakeUps]),
    queue.waitUntilReady(),
    checker.waitUntilReady(),
  ]);
  await checker.startStalledCheckTimer();
  const closing = new AbortController();
  void keepAnswering(wakeUps, clock, closing.signal);
  const registry = redisWorkerRegistry(commands, prefix);
  return {
    takeLease: (runId, holder, over) => call(() => lease.take(runId, holder, over)),
    renewLease: (holder) => call(() => lease.renew(holder)),
    releaseLease: (terms) => call(() => lease.release(terms)),
    add: addOperation(queue, options),
    read: (jobId) => call(() => recordOf(queue, commands, jobId)),
    remove: async (jobIds) => {
      await removed(queue, jobIds);
    },
    removeLeftovers: (runId, epoch) => call(() => removeWaitingOfRun(queue, runId, epoch)),
    workers: () => call(() => registry.workers()),
    quarantine: async (worker, durationMs) => {
      const key = quarantineKeyOf(prefix, worker);
      await call(() => commands.set(key, '', 'PX', Math.max(1, durationMs)));
    },
    ...{ blobs, subscribe },
    close: async () => {
      closing.abort();
      // Closing waits for replies of a server that may be away; the connections end regardless.
      const inTime = new AbortController();
      const closed = Promise.allSettled([checker.close(true), queue.close()]);
      await Promise.race([closed, clock.sleep(CLOSE_TIMEOUT_MS, inTime.signal)]);
      inTime.abort();
      for (const ended of [commands, connection, wakeUps]) ended.disconnect();
    },
  };
}

function addOperation(
  queue: bullmq.Queue,
  { lease, call }: Pick<Parameters<typeof bullmqProducer>[1], 'lease' | 'call'>,
): JobProducer['add'] {
  return async (jobs) => {
    const added = jobs.map(({ jobId, job }) => ({
      ...{ name: job.work.kind, data: job },
      opts: { jobId },
    }));
    const add = (): Promise<unknown> => queue.addBulk(added);
    const undo = (): Promise<unknown> =>
      removed(
        queue,
        jobs.map(({ jobId }) => jobId),
      );
    await call(() => (lease.isHeld ? lease.addUnder(add, undo) : add()));
  };
}

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
