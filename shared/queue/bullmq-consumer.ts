/**
 * The worker's end of the BullMQ queue: a stock `Worker`, which renews locks, detects lost ones and repeats what a
 * lost connection interrupted. It is paused whenever it has taken the job that was asked for, so that a worker
 * takes a second job only when it wants one.
 */

import { createRequire } from 'node:module';
import type * as bullmq from 'bullmq';
import type { Clock } from '../base/clock.js';
import type { BlobStore } from '../storage/blob-store.js';
import { formatJobFailure, mayPass } from './queue-errors.js';
import type {
  BlobLimits,
  ConnectedWorker,
  JobConsumer,
  JobProcessor,
  TakeTerms,
} from './job-queue.js';
import { INNER_LOOP_QUEUE, type JobResult } from './protocol.js';
import type { RedisConnection } from './redis-connection.js';
import { type QueueCall, queueErrorOf } from './redis-errors.js';
import {
  quarantineKeyOf,
  startOf,
  wakeUpChannelOf,
  wakeUpText,
  type WorkerRegistry,
  type WorkerReport,
} from './redis-registry.js';
import { LOCK_DURATION_MS, LOCK_RENEWAL_INTERVAL_MS, TAKE_WAIT_MS_MAX } from './timing.js';

// The CommonJS form of the library loads in half the time.
const { UnrecoverableError, WaitingError, Worker } = createRequire(import.meta.url)(
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

/** @param redis is the consumer's own: it ends the connection when it closes. */
export function bullmqConsumer(
  redis: RedisConnection,
  identity: {
    readonly self: ConnectedWorker;
    readonly registry: WorkerRegistry;
    readonly report: () => WorkerReport | null;
    readonly server: string;
    readonly process: JobProcessor;
    readonly onError: (error: Error) => void;
  },
  options: {
    readonly bullmq: { readonly prefix: string; readonly skipVersionCheck: boolean };
    readonly clock: Clock;
    readonly where: string;
    readonly call: QueueCall;
    readonly blobs: (limits: BlobLimits) => BlobStore;
  },
): JobConsumer {
  const { self, registry, report, server, process, onError } = identity;
  const { bullmq, clock, where, call, blobs } = options;
  const underWay = new JobsUnderWay(clock);
  const worker = new Worker<unknown, JobResult>(
    INNER_LOOP_QUEUE,
    (job, token, signal) =>
      underWay.watch(job.id ?? '', () =>
        processed(job, token, signal ?? new AbortController().signal, process),
      ),
    { connection: redis, ...bullmq, name: self.name, ...WORKER_OPTIONS },
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
  tellEnds(worker, { redis, prefix: bullmq.prefix, underWay });
  return {
    server,
    name: self.name,
    blobs,
    takeOne: (how) => taking.begin(how),
    pause: () => taking.end(),
    beat: (jobId) => call(() => registry.beat({ ...self, jobId, report: report() })),
    // A key that is not there has a negative lifetime.
    quarantinedMs: async () =>
      Math.max(0, await call(() => redis.pttl(quarantineKeyOf(bullmq.prefix, self.name)))),
    stop: async () => {
      taking.stop();
      await underWay.ended();
    },
    close: async () => {
      taking.stop();
      const inTime = new AbortController();
      const closed = Promise.allSettled([registry.leave(self.instance), worker.close(true)]);
      await Promise.race([closed, clock.sleep(CLOSE_TIMEOUT_MS, inTime.signal)]);
      inTime.abort();
      redis.disconnect();
    },
  };
}

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

/** Tells the coordinator that is concerned of each job that ends, with its result. */
function tellEnds(
  worker: bullmq.Worker<unknown, JobResult>,
  {
    redis,
    prefix,
    underWay,
  }: { readonly redis: RedisConnection; readonly prefix: string; readonly underWay: JobsUnderWay },
): void {
  const end = (jobId: string, message: { readonly returnValue?: unknown }): void => {
    underWay.end(jobId);
    const channel = wakeUpChannelOf(prefix, startOf(jobId));
    // A message that is lost costs the coordinator a moment.
    redis.publish(channel, wakeUpText({ jobId, ...message })).catch(() => undefined);
  };
  worker.on('completed', ({ id = '' }, returnValue) => end(id, { returnValue }));
  worker.on('failed', (job) => end(job?.id ?? '', {}));
}
