/**
 * The worker's end of the BullMQ queue. It takes jobs one by one rather than by BullMQ's own loop,
 * which cannot take a job ahead only when no other worker would go without. It calls the library's commands
 * without the classes around them, whose code would take most of a worker's time for a job.
 */

import { createRequire } from 'node:module';
import type * as bullmq from 'bullmq';
import { isRecord } from '../base/canonical-json.js';
import type { Clock } from '../base/clock.js';
import type { BlobStore } from '../storage/blob-store.js';
import { finishByOwnScript } from './finishing/finish-script.js';
import { formatJobFailure, WORKER_LOST } from './job-failure.js';
import type { BlobLimits, ConnectedWorker, JobConsumer, TakenJob } from './job-queue.js';
import type { ParcelResult } from './job-parcel.js';
import { INNER_LOOP_QUEUE, type JobResult } from './protocol.js';
import type { RedisConnection } from './redis-connection.js';
import type { QueueCall } from './redis-errors.js';
import { quarantineKeyOf, type WorkerRegistry } from './redis-registry.js';
import type { ServerTime } from './server-time.js';
import type { WorkerReport } from './workers/worker-report.js';
import { resultHeadOf, wakeUpChannelOf, wakeUpText } from './wake-up-messages.js';
import { LOCK_DURATION_MS, STALLED_INTERVAL_MS, TAKE_WAIT_MS_MAX } from './timing.js';

// The CommonJS form of the library loads in half the time.
const { Job, Queue, UnrecoverableError, Worker } = createRequire(import.meta.url)(
  'bullmq',
) as typeof bullmq;

const METRICS_MINUTES_KEPT = 24 * 60;
/** Closing waits for replies of a server that may be away; the connection ends regardless. */
const CLOSE_TIMEOUT_MS = 500;

const WORKER_OPTIONS = {
  drainDelay: TAKE_WAIT_MS_MAX / 1_000,
  lockDuration: LOCK_DURATION_MS,
  stalledInterval: STALLED_INTERVAL_MS,
  // Producers look for stalled jobs. Many workers doing the same would gain nothing.
  skipStalledCheck: true,
  metrics: { maxDataPoints: METRICS_MINUTES_KEPT },
};

type EntryResult = JobResult | ParcelResult;
type ConsumingWorker = bullmq.Worker<unknown, EntryResult>;
type Taken = bullmq.Job<unknown, EntryResult>;
type TellWakeUp = (message: Parameters<typeof wakeUpText>[0]) => Promise<void>;

/** @param redis is the consumer's own: it ends the connection when it closes. */
export function bullmqConsumer(
  redis: RedisConnection,
  identity: {
    readonly self: ConnectedWorker;
    readonly registry: WorkerRegistry;
    readonly report: () => WorkerReport | null;
    readonly server: string;
    readonly onError: (error: Error) => void;
  },
  options: {
    readonly bullmq: { readonly prefix: string; readonly skipVersionCheck: boolean };
    readonly clock: Clock;
    readonly call: QueueCall;
    readonly serverTime: ServerTime;
    readonly blobs: (limits: BlobLimits) => BlobStore;
  },
): JobConsumer {
  const { self, registry, report, server, onError } = identity;
  const { bullmq, clock, call, serverTime, blobs } = options;
  const worker = workerOn(redis, { ...bullmq, name: self.name });
  const channel = wakeUpChannelOf(bullmq.prefix);
  finishByOwnScript(worker, { redis, serverTime, channel, messageHeadOf: resultHeadOf });
  const queue = new Queue(INNER_LOOP_QUEUE, { connection: redis, ...bullmq });
  worker.on('error', onError);
  queue.on('error', onError);
  const tokens = new WeakMap<TakenJob, string>();
  const tell = tellOver(redis, channel);
  let takenCount = 0;
  const nextEntry = entriesOf(worker);
  return {
    server,
    name: self.name,
    blobs,
    take: async ({ wait }) => {
      takenCount += 1;
      const token = `${self.instance}:${takenCount}`;
      const queued = await call(() => nextEntry(token, wait));
      if (queued?.id === undefined) return null;
      if (queued.deferredFailure) {
        await call(() => failAsLost(queued, token));
        await tell({ jobId: queued.id });
        return null;
      }
      const taken = takenJob({ queued, jobId: queued.id, token, worker }, call, tell);
      tokens.set(taken, token);
      return taken;
    },
    extendLocks: async (jobs) => {
      const jobIds = jobs.map(({ jobId }) => jobId);
      const ownTokens = jobs.map((job) => tokens.get(job) ?? '');
      const lostIds = await call(() => worker.extendJobLocks(jobIds, ownTokens, LOCK_DURATION_MS));
      return jobs.filter(({ jobId }) => lostIds.includes(jobId));
    },
    // The library would count in a script.
    waitingCount: () => call(() => redis.llen(queue.toKey('wait'))),
    beat: (jobId) => call(() => registry.beat({ ...self, jobId }, report())),
    // A key that is not there has a negative lifetime.
    quarantinedMs: async () =>
      Math.max(0, await call(() => redis.pttl(quarantineKeyOf(bullmq.prefix, self.name)))),
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

function workerOn(
  connection: RedisConnection,
  bullmq: { readonly prefix: string; readonly skipVersionCheck: boolean; readonly name: string },
): ConsumingWorker {
  return new Worker(INNER_LOOP_QUEUE, null, { connection, ...bullmq, ...WORKER_OPTIONS });
}

/** Takes entries of the queue one by one; null if none has come, or the worker closes. */
function entriesOf(
  worker: ConsumingWorker,
): (token: string, wait: boolean) => Promise<Taken | null> {
  let foundNone = false;
  return async (token, wait) => {
    if (worker.closing !== undefined) return null;
    // The queue says when a job has come, and may say so for nothing.
    if (wait && foundNone) await waited(worker);
    const entry = await entryFrom(worker, token);
    foundNone = entry === null;
    return entry;
  };
}

/** Null if no job waits. */
async function entryFrom(worker: ConsumingWorker, token: string): Promise<Taken | null> {
  const found: readonly unknown[] = await worker.backend.moveToActive(token, worker.opts.name);
  const [json, jobId] = found;
  if (!isEntry(json) || typeof jobId !== 'string') return null;
  return Job.fromJSON<unknown, EntryResult>(worker, json, jobId);
}

function isEntry(json: unknown): json is bullmq.JobJson {
  return isRecord(json) && typeof json['data'] === 'string';
}

/** Ends after `TAKE_WAIT_MS_MAX` at the latest, and when the worker closes. */
async function waited(worker: ConsumingWorker): Promise<void> {
  try {
    await worker.backend.waitForJob(TAKE_WAIT_MS_MAX / 1_000);
  } catch (error) {
    if (worker.closing === undefined) throw error;
  }
}

/** BullMQ's own loop does this to a job that has lost its worker. */
async function failAsLost(queued: Taken, token: string): Promise<void> {
  const lost = new UnrecoverableError(formatJobFailure(WORKER_LOST));
  await queued.moveToFailed(lost, token, false);
}

function tellOver(redis: RedisConnection, channel: string): TellWakeUp {
  return async (message) => {
    // A message that is lost costs the coordinator a moment.
    await redis.publish(channel, wakeUpText(message)).catch(() => undefined);
  };
}

interface QueuedToken {
  readonly queued: Taken;
  readonly jobId: string;
  readonly token: string;
  readonly worker: ConsumingWorker;
}

function takenJob(
  { queued, jobId, token, worker: { backend } }: QueuedToken,
  call: QueueCall,
  tell: TellWakeUp,
): TakenJob {
  const traceparent = queued.opts.telemetry?.metadata;
  const addedMs = queued.timestamp;
  return {
    jobId,
    data: queued.data,
    ...(traceparent === undefined ? {} : { traced: { traceparent, addedMs } }),
    complete: async (result) => {
      const { removeOnComplete = false } = queued.opts;
      await call(() => backend.moveToCompleted(queued, result, removeOnComplete, token, false));
    },
    fail: async (failure) => {
      const text = formatJobFailure(failure);
      // BullMQ keeps the text alone, and tells errors apart by the exact class.
      const error = failure.kind === 'permanent' ? new UnrecoverableError(text) : new Error(text);
      await call(() => queued.moveToFailed(error, token, false));
      await tell({ jobId });
    },
    handBack: async () => {
      await call(() => backend.moveJobFromActiveToWait(jobId, token));
    },
  };
}
