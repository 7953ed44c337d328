/**
 * Carries jobs over the queue: puts their blobs, enqueues them, and yields results as they come.
 * The queue's record is the truth about a job and its event only a wake-up: every open job is read
 * again at intervals, so a lost event, a restarted or emptied server and a dead worker all end in
 * one more delivery. `job-delivery.ts` follows a single job; `shared/queue/job-queue.ts` is the
 * queue.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer, JobQueue } from '../../shared/queue/job-queue.js';
import { startSuffixOf } from '../../shared/queue/protocol.js';
import { START_BEAT_INTERVAL_MS } from '../../shared/queue/timing.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import { Admission, admissionRecord } from './admission.js';
import type { Dispatcher } from './dispatcher.js';
import { BlobLeases } from './blob-leases.js';
import { DispatchStep } from './dispatch-step.js';
import { createQueuePatience } from './queue-patience.js';
import { WorkerHealth } from './worker-health.js';

interface QueueDispatcherOptions {
  readonly queue: JobQueue;
  readonly limits: QueueConfig;
  readonly runId: string;
  /**
   * Sets this start of the run apart from any other. It must not follow from the run's seed: a
   * second start would be given results that the first one ordered.
   */
  readonly nonce: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** The blob store that workers read, beside the queue by default. */
  readonly blobs?: BlobStore;
}

const OPEN_TIMEOUT_MS = 30_000;
const RELEASE_TIMEOUT_MS = 500;
/** How often a coordinator removes what silent ones left, in beats. */
const BEATS_PER_CLEANING = 30;

/**
 * Connects, checks the server, and removes what a dead coordinator of the same run left waiting.
 *
 * @throws QianmoError `environment` when the server is down, refuses, or may evict keys.
 */
export async function createQueueDispatcher(options: QueueDispatcherOptions): Promise<Dispatcher> {
  const { queue, limits, runId, nonce, clock, sink } = options;
  const producer = await queue.openProducer();
  const { blobLifetimeMs: lifetimeMs, blobByteCountMax } = limits;
  const blobs = options.blobs ?? producer.blobs({ lifetimeMs, blobByteCountMax });
  const { refusalWaitMs } = limits;
  const patience = createQueuePatience({ where: queue.address, clock, sink, refusalWaitMs });
  const entering = patience.attempt(
    () => enter(producer, runId, nonce),
    clock.monotonicMs() + OPEN_TIMEOUT_MS,
  );
  const leftoverCount = await entering.catch(async (error: unknown) => {
    // Nobody else has the producer, so it must not be left open.
    await producer.close();
    throw error;
  });
  if (leftoverCount > 0) sink({ kind: 'leftover-jobs-removed', jobCount: leftoverCount });

  const record = admissionRecord(sink);
  const health = new WorkerHealth({ clock, sink });
  const leases = new BlobLeases();
  const context = {
    ...{ start: nonce, producer, blobs, leases, patience, health, limits, clock, sink },
    fingerprints: record.fingerprints,
  };
  const closed = new AbortController();
  void keepAlive(producer, { start: nonce, clock, sink, closed: closed.signal });
  const openSteps = new Set<Pick<DispatchStep<object>, 'stop'>>();
  let stepCount = 0;
  return {
    rejections: record.rejections,
    async *run(orders, read, signal, { attemptsMax = limits.jobAttemptsMax } = {}) {
      stepCount += 1;
      const admission = new Admission(orders, read, record);
      const idSuffix = startSuffixOf(nonce, stepCount);
      const step = new DispatchStep(context, { orders, admission, signal, attemptsMax, idSuffix });
      openSteps.add(step);
      try {
        yield* step.results();
      } finally {
        openSteps.delete(step);
        await step.close();
      }
    },
    close: async () => {
      closed.abort();
      for (const step of openSteps) step.stop();
      const unused = leases.releaseHeld();
      await patience
        .attemptQuietly(
          () => Promise.all(unused.map((ref) => blobs.delete(ref))),
          clock.monotonicMs() + RELEASE_TIMEOUT_MS,
        )
        // Their lifetime removes them otherwise.
        .catch(() => undefined);
      await producer.close();
    },
  };
}

/** Registers the start, and returns the number of jobs of earlier ones that it removed. */
async function enter(producer: JobProducer, runId: string, start: string): Promise<number> {
  await producer.beat(start);
  const ofRun = await producer.removeLeftovers(runId);
  return ofRun + (await producer.removeJobsOfSilentStarts());
}

/**
 * Says at intervals that this start lives, also between steps, and removes what silent ones left. A
 * failure shows in the commands of a step.
 */
async function keepAlive(
  producer: JobProducer,
  {
    start,
    clock,
    sink,
    closed,
  }: { start: string; clock: Clock; sink: RunEventSink; closed: AbortSignal },
): Promise<void> {
  for (let beatCount = 1; ; beatCount += 1) {
    await clock.sleep(START_BEAT_INTERVAL_MS, closed);
    if (closed.aborted) return;
    try {
      await producer.beat(start);
      if (beatCount % BEATS_PER_CLEANING !== 0) continue;
      const jobCount = await producer.removeJobsOfSilentStarts();
      if (jobCount > 0) sink({ kind: 'leftover-jobs-removed', jobCount });
    } catch {
      // The next beat tries again.
    }
  }
}
