/**
 * The worker's end of the BullMQ queue. It takes jobs one by one rather than by BullMQ's own loop,
 * which cannot take a job ahead only when no other worker would go without.
 */

import { Queue, UnrecoverableError, Worker, type Job as BullmqJob } from 'bullmq';
import type { Clock } from '../base/clock.js';
import type { BlobStore } from '../storage/blob-store.js';
import { formatJobFailure } from './job-failure.js';
import type { BlobLimits, ConnectedWorker, JobConsumer, TakenJob } from './job-queue.js';
import { INNER_LOOP_QUEUE, type JobResult } from './protocol.js';
import type { RedisConnection } from './redis-connection.js';
import type { QueueCall } from './redis-errors.js';
import type { WorkerRegistry } from './redis-registry.js';
import {
  LOCK_DURATION_MS,
  STALLED_INTERVAL_MS,
  STALLS_PER_DELIVERY_MAX,
  TAKE_WAIT_MS_MAX,
} from './timing.js';

const METRICS_MINUTES_KEPT = 24 * 60;
/** Closing waits for replies of a server that may be away; the connection ends regardless. */
const CLOSE_TIMEOUT_MS = 500;

type Taken = BullmqJob<unknown, JobResult>;

/** @param redis is the consumer's own: it ends the connection when it closes. */
export function bullmqConsumer(
  redis: RedisConnection,
  identity: {
    readonly self: ConnectedWorker;
    readonly registry: WorkerRegistry;
    readonly server: string;
    readonly onError: (error: Error) => void;
  },
  options: {
    readonly bullmq: { readonly prefix: string; readonly skipVersionCheck: boolean };
    readonly clock: Clock;
    readonly call: QueueCall;
    readonly blobs: (limits: BlobLimits) => BlobStore;
  },
): JobConsumer {
  const { self, registry, server, onError } = identity;
  const { bullmq, clock, call, blobs } = options;
  const worker = new Worker<unknown, JobResult>(INNER_LOOP_QUEUE, null, {
    connection: redis,
    ...bullmq,
    name: self.name,
    drainDelay: TAKE_WAIT_MS_MAX / 1_000,
    lockDuration: LOCK_DURATION_MS,
    stalledInterval: STALLED_INTERVAL_MS,
    maxStalledCount: STALLS_PER_DELIVERY_MAX,
    // Producers look for stalled jobs. Many workers doing the same would gain nothing.
    skipStalledCheck: true,
    metrics: { maxDataPoints: METRICS_MINUTES_KEPT },
  });
  const queue = new Queue(INNER_LOOP_QUEUE, { connection: redis, ...bullmq });
  worker.on('error', onError);
  queue.on('error', onError);
  const tokens = new WeakMap<TakenJob, string>();
  let takenCount = 0;
  return {
    server,
    name: self.name,
    blobs,
    take: async ({ wait }) => {
      takenCount += 1;
      const token = `${self.instance}:${takenCount}`;
      // The library's type leaves out that there may be no job.
      const queued = (await call(() => worker.getNextJob(token, { block: wait }))) as
        Taken | undefined;
      if (queued?.id === undefined) return null;
      if (queued.deferredFailure) {
        // BullMQ's own loop would fail a job that stalled too often here.
        await queued.moveToFailed(new UnrecoverableError(queued.deferredFailure), token, false);
        return null;
      }
      const taken = takenJob(queued, queued.id, token, call);
      tokens.set(taken, token);
      return taken;
    },
    extendLocks: async (jobs) => {
      const jobIds = jobs.map(({ jobId }) => jobId);
      const ownTokens = jobs.map((job) => tokens.get(job) ?? '');
      const lostIds = await call(() => worker.extendJobLocks(jobIds, ownTokens, LOCK_DURATION_MS));
      return jobs.filter(({ jobId }) => lostIds.includes(jobId));
    },
    waitingCount: () => call(() => queue.getWaitingCount()),
    beat: (jobId) => call(() => registry.beat({ ...self, jobId })),
    stopWaiting: () => worker.close(true),
    close: async () => {
      const inTime = new AbortController();
      const left = registry.leave(self.instance);
      const closed = Promise.allSettled([left, worker.close(true), queue.close()]);
      await Promise.race([closed, clock.sleep(CLOSE_TIMEOUT_MS, inTime.signal)]);
      inTime.abort();
      redis.disconnect();
    },
  };
}

function takenJob(queued: Taken, jobId: string, token: string, call: QueueCall): TakenJob {
  return {
    jobId,
    data: queued.data,
    complete: async (result) => {
      await call(() => queued.moveToCompleted(result, token, false));
    },
    fail: async (failure) => {
      const text = formatJobFailure(failure);
      // BullMQ keeps the text alone, and tells errors apart by the exact class.
      const error = failure.kind === 'permanent' ? new UnrecoverableError(text) : new Error(text);
      await call(() => queued.moveToFailed(error, token, false));
    },
    handBack: async () => {
      await call(() => queued.moveToWait(token));
    },
  };
}
