/** A queue whose commands travel: each call begins and ends half a latency later. */

import type { Clock } from '../../../shared/base/clock.js';
import type { JobConsumer, JobProducer, TakenJob } from '../../../shared/queue/job-queue.js';
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
  ...(['removeLeftovers', 'beat', 'removeJobsOfSilentStarts', 'workers', 'quarantine'] as const),
];
const CONSUMER_CALLS: readonly (keyof JobConsumer)[] = [
  ...(['extendLocks', 'waitingCount', 'beat', 'quarantinedMs'] as const),
];
const JOB_CALLS: readonly (keyof TakenJob)[] = ['complete', 'fail', 'handBack'];
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
    openProducer: async () => {
      const inner = await queue.openProducer();
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
      const inner = await queue.openConsumer(options);
      return {
        ...methodsOf(delayedEnd(inner, CONSUMER_CALLS, clock, latencyMs)),
        ...overrides(inner),
      };
    },
  };

  function overrides(inner: JobConsumer): Pick<JobConsumer, 'take' | 'extendLocks' | 'blobs'> {
    const innerJobs = new WeakMap<TakenJob, TakenJob>();
    const innerOf = (job: TakenJob): TakenJob => innerJobs.get(job) ?? job;
    return {
      blobs: blobsOf(inner),
      take: async (how) => {
        await clock.sleep(latencyMs / 2);
        const taken = await inner.take(how);
        await clock.sleep(latencyMs / 2);
        if (taken === null) return null;
        const job = delayedEnd(taken, JOB_CALLS, clock, latencyMs);
        innerJobs.set(job, taken);
        return job;
      },
      extendLocks: async (jobs) => {
        const lost = await inner.extendLocks(jobs.map(innerOf));
        return jobs.filter((job) => lost.includes(innerOf(job)));
      },
    };
  }
}

/** The members of an end by name, so that some can be replaced. */
function methodsOf<End extends object>(end: End): End {
  // The keys are those of the object itself.
  const names = Object.keys(end) as (keyof End)[];
  return Object.fromEntries(names.map((name) => [name, end[name]])) as End;
}
