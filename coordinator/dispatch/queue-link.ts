/**
 * The coordinator's end of the BullMQ queue, and the only file of the coordinator's training that
 * knows BullMQ: connections, adding and reading jobs, wake-ups, and the check for stalled jobs.
 * It decides nothing about a job's fate and retries nothing.
 */

import { Queue, QueueEvents, Worker, type JobsOptions } from 'bullmq';
import type { Clock } from '../../shared/base/clock.js';
import type { Job } from '../../shared/queue/protocol.js';
import { INNER_LOOP_QUEUE, JOB_BYTE_COUNT_MAX } from '../../shared/queue/protocol.js';
import {
  checkRedis,
  connectRedis,
  type RedisConnection,
  type RedisFacts,
} from '../../shared/queue/redis-connection.js';
import {
  EVENT_COUNT_MAX,
  LOCK_DURATION_MS,
  STALLED_INTERVAL_MS,
  STALLS_PER_DELIVERY_MAX,
} from '../../shared/queue/timing.js';
import { STALLED_CHECKER_NAME, workerNamesOf } from '../../shared/queue/worker-names.js';

/** Finished jobs stay this long, for the queue board; what matters was read long before. */
const FINISHED_AGE_S_MAX = 3_600;
const FINISHED_COUNT_MAX = 5_000;
const LEFTOVER_PAGE_COUNT = 1_000;
/** BullMQ's event reader never ends its closing when the server went away before. */
const CLOSE_TIMEOUT_MS = 2_000;

/** What Redis holds about a job; the event that says so may be lost, this is not. */
export type JobRecord =
  | { readonly state: 'gone' }
  | { readonly state: 'open' }
  | { readonly state: 'completed'; readonly returnValue: unknown }
  | { readonly state: 'failed'; readonly reason: string; readonly worker: string };

export interface QueuedJob {
  readonly jobId: string;
  readonly job: Job;
  readonly delayMs: number;
}

/** The id of a job that finished, or `all` when events may have been missed. */
export type WakeUp = (jobId: string) => void;
export const WAKE_ALL = 'all';

export interface QueueLink {
  readonly redis: RedisConnection;
  readonly facts: RedisFacts;
  /** All or none; a job whose id is on the queue already is left as it is. */
  add(jobs: readonly QueuedJob[]): Promise<void>;
  read(jobId: string): Promise<JobRecord>;
  /** Removes what still waits; what a worker holds runs to its end and is ignored. */
  remove(jobIds: readonly string[]): Promise<void>;
  /** Removes waiting jobs of a run, whoever added them, and returns how many there were. */
  removeLeftovers(runId: string): Promise<number>;
  workerNames(): Promise<string[]>;
  /** Returns what ends the subscription. */
  subscribe(listener: WakeUp): () => void;
  close(): Promise<void>;
}

const JOB_OPTIONS: JobsOptions = {
  // One delivery per id: the dispatcher retries under the next id, so that every reason is seen
  // and every bound is in one place.
  attempts: 1,
  removeOnComplete: { age: FINISHED_AGE_S_MAX, count: FINISHED_COUNT_MAX },
  removeOnFail: { age: FINISHED_AGE_S_MAX, count: FINISHED_COUNT_MAX },
  sizeLimit: JOB_BYTE_COUNT_MAX,
  stackTraceLimit: 5,
};

export async function openQueueLink(options: {
  readonly redisUrl: string;
  readonly prefix: string;
  readonly clock: Clock;
  readonly onError: (error: Error) => void;
}): Promise<QueueLink> {
  const { redisUrl: url, prefix, clock, onError } = options;
  const redis = await connectRedis({ url, role: 'producer', name: 'qianmo-coordinator', onError });
  let waiting: RedisConnection | undefined;
  try {
    const facts = await checkRedis(redis);
    waiting = await connectRedis({ url, role: 'events', name: 'qianmo-events', onError });
    return await linkOver({ redis, waiting, facts, prefix, clock, onError });
  } catch (error) {
    redis.disconnect();
    waiting?.disconnect();
    throw error;
  }
}

async function linkOver(parts: {
  readonly redis: RedisConnection;
  readonly waiting: RedisConnection;
  readonly facts: RedisFacts;
  readonly prefix: string;
  readonly clock: Clock;
  readonly onError: (error: Error) => void;
}): Promise<QueueLink> {
  const { redis, waiting, facts, prefix, clock, onError } = parts;
  const queue = new Queue(INNER_LOOP_QUEUE, {
    connection: redis,
    prefix,
    defaultJobOptions: JOB_OPTIONS,
    streams: { events: { maxLen: EVENT_COUNT_MAX } },
  });
  const events = new QueueEvents(INNER_LOOP_QUEUE, { connection: waiting, prefix });
  const checker = new Worker(INNER_LOOP_QUEUE, null, {
    connection: waiting,
    prefix,
    name: STALLED_CHECKER_NAME,
    autorun: false,
    lockDuration: LOCK_DURATION_MS,
    stalledInterval: STALLED_INTERVAL_MS,
    maxStalledCount: STALLS_PER_DELIVERY_MAX,
  });
  queue.on('error', onError);
  events.on('error', onError);
  checker.on('error', onError);
  const wakes = wakeUps(events, redis);
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady(), checker.waitUntilReady()]);
  await checker.startStalledCheckTimer();
  return {
    redis,
    facts,
    ...operations(queue),
    subscribe: wakes.subscribe,
    close: async () => {
      // Closing waits for replies of a server that may be away; the connections end regardless.
      const inTime = new AbortController();
      const closed = Promise.allSettled([checker.close(true), events.close(), queue.close()]);
      await Promise.race([closed, clock.sleep(CLOSE_TIMEOUT_MS, inTime.signal)]);
      inTime.abort();
      redis.disconnect();
      waiting.disconnect();
    },
  };
}

function wakeUps(events: QueueEvents, redis: RedisConnection): Pick<QueueLink, 'subscribe'> {
  const listeners = new Set<WakeUp>();
  const wake = (jobId: string): void => {
    for (const listener of listeners) listener(jobId);
  };
  events.on('completed', ({ jobId }) => wake(jobId));
  events.on('failed', ({ jobId }) => wake(jobId));
  redis.on('ready', () => wake(WAKE_ALL));
  return {
    subscribe: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

function operations(
  queue: Queue,
): Pick<QueueLink, 'add' | 'read' | 'remove' | 'removeLeftovers' | 'workerNames'> {
  return {
    add: async (jobs) => {
      await queue.addBulk(
        jobs.map(({ jobId, job, delayMs }) => ({
          name: job.work.kind,
          data: job,
          opts: { jobId, delay: delayMs },
        })),
      );
    },
    read: async (jobId) => {
      const job = await queue.getJob(jobId);
      if (job === undefined) return { state: 'gone' };
      if (job.finishedOn === undefined) return { state: 'open' };
      // An empty text is how a completed job of a bulk read may carry the field.
      if (job.failedReason)
        return { state: 'failed', reason: job.failedReason, worker: job.processedBy ?? '' };
      const returnValue: unknown = job.returnvalue;
      return { state: 'completed', returnValue };
    },
    remove: async (jobIds) => {
      await Promise.allSettled(jobIds.map((jobId) => queue.remove(jobId)));
    },
    removeLeftovers: (runId) => removeLeftovers(queue, runId),
    workerNames: async () => workerNamesOf(await queue.getWorkers()),
  };
}

async function removeLeftovers(queue: Queue, runId: string): Promise<number> {
  const ids: string[] = [];
  for (let start = 0; ; start += LEFTOVER_PAGE_COUNT) {
    const end = start + LEFTOVER_PAGE_COUNT - 1;
    const page = await queue.getJobs(['wait', 'delayed', 'prioritized'], start, end);
    for (const job of page) {
      // The data of a job is whatever its producer wrote: look, do not trust.
      const data: unknown = job.data;
      const ours =
        typeof data === 'object' && data !== null && 'runId' in data && data.runId === runId;
      if (ours && job.id !== undefined) ids.push(job.id);
    }
    if (page.length === 0) break;
  }
  await Promise.allSettled(ids.map((id) => queue.remove(id)));
  return ids.length;
}
