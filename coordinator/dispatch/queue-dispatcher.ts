/**
 * Carries jobs over the queue: puts their blobs, enqueues them, and yields results as they come.
 * The record in Redis is the truth about a job and its event only a wake-up: every open job is read
 * again at intervals, so a lost event, a restarted or emptied Redis and a dead worker all end in
 * one more delivery. What a single job went through is `job-delivery.ts`; BullMQ is `queue-link.ts`.
 */

import { randomBytes } from 'node:crypto';
import type { Clock } from '../../shared/base/clock.js';
import type { QueueConfig } from '../../shared/config/run-config.js';
import { redactedRedisUrl } from '../../shared/queue/redis-connection.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import { RedisBlobStore } from '../../shared/storage/redis-blob-store.js';
import { Admission } from './admission.js';
import type { Dispatcher, Rejection } from './dispatcher.js';
import { BlobLeases } from './blob-leases.js';
import { DispatchStep } from './dispatch-step.js';
import { openQueueLink } from './queue-link.js';
import { createRedisPatience } from './redis-patience.js';
import { Refusals } from './refusals.js';

export interface QueueDispatcherOptions {
  readonly redisUrl: string;
  readonly queue: QueueConfig;
  readonly runId: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** Where workers look for blobs; Redis by default. */
  readonly blobs?: BlobStore;
}

const NONCE_BYTE_COUNT = 4;
const RELEASE_TIMEOUT_MS = 500;

/**
 * Connects, checks the server, and clears what a dead coordinator of the same run left waiting.
 *
 * @throws QianmoError `environment` when Redis is down, refuses, or may evict keys.
 */
export async function createQueueDispatcher(options: QueueDispatcherOptions): Promise<Dispatcher> {
  const { redisUrl, queue, runId, clock, sink } = options;
  // Lost connections show where they matter: as commands that fail, in `redis-patience.ts`.
  const onError = (): void => undefined;
  const link = await openQueueLink({ redisUrl, prefix: queue.prefix, clock, onError });
  const blobs =
    options.blobs ??
    new RedisBlobStore({
      redis: link.redis,
      prefix: queue.prefix,
      lifetimeMs: queue.blobLifetimeMs,
      blobByteCountMax: queue.blobByteCountMax,
    });
  const patience = createRedisPatience({ where: redactedRedisUrl(redisUrl), clock, sink });
  const leftoverCount = await link.removeLeftovers(runId);
  if (leftoverCount > 0) sink({ kind: 'leftover-jobs-removed', jobCount: leftoverCount });

  const rejections = new Map<Rejection, number>();
  const refusals = new Refusals({ clock, sink });
  const leases = new BlobLeases(blobs);
  const context = { link, blobs, leases, patience, refusals, limits: queue, clock, sink };
  // Not from the run's seed: two starts of one run must differ, or the second would be given the
  // results of the first.
  const nonce = randomBytes(NONCE_BYTE_COUNT).toString('hex');
  const openSteps = new Set<Pick<DispatchStep<object>, 'stop'>>();
  let stepCount = 0;
  return {
    rejections,
    async *run(orders, read, signal) {
      stepCount += 1;
      const admission = new Admission(orders, read, rejections);
      const idSuffix = `${nonce}-${stepCount}`;
      const step = new DispatchStep(context, { orders, admission, signal, idSuffix });
      openSteps.add(step);
      try {
        yield* step.results();
      } finally {
        openSteps.delete(step);
        await step.close();
      }
    },
    close: async () => {
      for (const step of openSteps) step.stop();
      await patience
        .attempt(() => leases.releaseHeld(), clock.monotonicMs() + RELEASE_TIMEOUT_MS)
        // A courtesy: they have a lifetime.
        .catch(() => undefined);
      await link.close();
    },
  };
}
