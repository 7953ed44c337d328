/** A queue whose commands travel: each call begins and ends half a latency later. */

import type { Clock } from '../../../shared/base/clock.js';
import type { JobConsumer, JobProducer } from '../../../shared/queue/job-queue.js';
import type { BlobStore } from '../../../shared/storage/blob-store.js';
import type { CheckoutCode } from './checkout-code.js';

type Queue = InstanceType<CheckoutCode['MemoryJobQueue']>;

/** Delays every method that returns a promise; others are called as they are. */
function delayedEnd<End extends object>(
  end: End,
  names: readonly (keyof End)[],
  clock: Clock,
  latencyMs: number,
): End {
  return new Proxy(end, {
    get: (target, name: string): unknown => {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      const method = (...given: unknown[]): unknown => Reflect.apply(member, target, given);
      if (!names.includes(name as keyof End)) return method;
      return async (...given: unknown[]): Promise<unknown> => {
        await clock.sleep(latencyMs / 2);
        const answer: unknown = await method(...given);
        await clock.sleep(latencyMs / 2);
        return answer;
      };
    },
  });
}

const PRODUCER_CALLS: readonly (keyof JobProducer)[] = [
  ...(['takeLease', 'renewLease', 'releaseLease', 'add', 'read', 'remove'] as const),
  ...(['removeLeftovers', 'workers', 'quarantine'] as const),
];
const CONSUMER_CALLS: readonly (keyof JobConsumer)[] = [...(['beat', 'quarantinedMs'] as const)];
const BLOB_CALLS: readonly (keyof BlobStore)[] = ['put', 'get', 'has', 'delete'];

export function delayedQueue(
  queue: Queue,
  clock: Clock,
  latencyMs: number,
): Pick<Queue, 'address' | 'openProducer' | 'openConsumer' | 'openController'> {
  const blobsOf = (end: JobProducer | JobConsumer): JobProducer['blobs'] => {
    return (limits) => delayedEnd(end.blobs(limits), BLOB_CALLS, clock, latencyMs);
  };
  return {
    address: queue.address,
    openController: () => queue.openController(),
    openProducer: async (start) => {
      const inner = await queue.openProducer(start);
      const end = delayedEnd(inner, PRODUCER_CALLS, clock, latencyMs);
      return {
        ...methodsOf(end),
        blobs: blobsOf(inner),
        subscribe: (listener) =>
          inner.subscribe((jobId, record) => {
            void clock.sleep(latencyMs / 2).then(() => listener(jobId, record));
          }),
      };
    },
    openConsumer: async (options) => {
      const inner = await queue.openConsumer({
        ...options,
        process: async (job, lost) => {
          // Taking a job takes a whole exchange, and so does ending it.
          await clock.sleep(latencyMs);
          const outcome = await options.process(job, lost);
          await clock.sleep(latencyMs);
          return outcome;
        },
      });
      const delayed = delayedEnd(inner, CONSUMER_CALLS, clock, latencyMs);
      return new Proxy(delayed, {
        get: (target, name: string): unknown =>
          name === 'blobs' ? blobsOf(inner) : Reflect.get(target, name),
      });
    },
  };
}

/** The members of an end by name, so that some can be replaced. */
function methodsOf<End extends object>(end: End): End {
  // The keys are those of the object itself.
  const names = Object.keys(end) as (keyof End)[];
  return Object.fromEntries(names.map((name) => [name, end[name]])) as End;
}
