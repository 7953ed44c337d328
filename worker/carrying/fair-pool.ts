/**
 * Several queues as one, for workers that serve runs of several prefixes by weights. A job is taken from the queue
 * whose turn it is (`fair-turns.ts`), or from another one if that is empty, so no worker waits while there is work.
 */

import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import { at } from '../../shared/base/arrays.js';
import type {
  JobConsumer,
  JobQueue,
  OpenConsumerOptions,
  TakenJob,
} from '../../shared/queue/job-queue.js';
import { computeMsOf } from '../../shared/queue/job-parcel.js';
import { FairTurns } from './fair-turns.js';

const WEIGHT_MAX = 1_000_000;

/** Prefixes of queues with their weights, as `{a}=3,{b}=1`. A prefix without a weight has 1. */
export const PrefixSharesSchema = z.string().transform((text, context) => {
  const shares = text.split(',').map((share) => {
    const [prefix = '', weight = '1', ...more] = share.trim().split('=');
    return { prefix, weight: more.length > 0 || weight === '' ? Number.NaN : Number(weight) };
  });
  const isDistinct = new Set(shares.map(({ prefix }) => prefix)).size === shares.length;
  const isValid = shares.every(
    ({ prefix, weight }) => prefix !== '' && weight > 0 && weight <= WEIGHT_MAX,
  );
  if (isDistinct && isValid) return shares;
  context.addIssue({
    code: 'custom',
    message: `expected a prefix, or several different ones with weights above 0 and at most ${WEIGHT_MAX}, as {a}=3,{b}=1`,
  });
  return z.NEVER;
});

/** A queue, and how much of the pool it gets beside the others that have work. */
interface PoolShare {
  readonly queue: Pick<JobQueue, 'address' | 'openConsumer'>;
  readonly weight: number;
}

export function fairPool(
  shares: readonly PoolShare[],
  clock: Clock,
): Pick<JobQueue, 'address' | 'openConsumer'> {
  const [only, ...others] = shares;
  if (only !== undefined && others.length === 0) return only.queue;
  return {
    address: at(shares, 0).queue.address,
    openConsumer: async (options) => {
      const consumers: JobConsumer[] = [];
      try {
        for (const { queue } of shares) consumers.push(await queue.openConsumer(options));
      } catch (error) {
        for (const consumer of consumers) await consumer.close();
        throw error;
      }
      const weights = shares.map(({ weight }) => weight);
      return new FairConsumer(consumers, new FairTurns(weights), { clock, options });
    },
  };
}

class FairConsumer implements JobConsumer {
  readonly #consumers: readonly JobConsumer[];
  readonly #turns: FairTurns;
  readonly #clock: Clock;
  readonly #onError: (error: Error) => void;
  readonly #placeOf = new WeakMap<TakenJob, { readonly place: number; readonly inner: TakenJob }>();
  /** The waits under way, by place. They outlast the call that began them. */
  readonly #waits = new Map<number, Promise<TakenJob | null>>();
  /** Whether a call waits for a job. One that comes when none does goes back to its queue. */
  #isWaiting = false;

  constructor(
    consumers: readonly JobConsumer[],
    turns: FairTurns,
    { clock, options }: { readonly clock: Clock; readonly options: OpenConsumerOptions },
  ) {
    this.#consumers = consumers;
    this.#turns = turns;
    this.#clock = clock;
    this.#onError = options.onError;
  }

  get server(): string {
    return at(this.#consumers, 0).server;
  }

  get name(): string {
    return at(this.#consumers, 0).name;
  }

  async take({ wait }: { readonly wait: boolean }): Promise<TakenJob | null> {
    for (const place of this.#turns.order()) {
      const job = await at(this.#consumers, place).take({ wait: false });
      if (job !== null) return this.#begun(place, job);
      this.#turns.foundEmpty(place);
    }
    return wait ? this.#firstToCome() : null;
  }

  async extendLocks(jobs: readonly TakenJob[]): Promise<readonly TakenJob[]> {
    const lost = await Promise.all(
      this.#consumers.map(async (consumer, place) => {
        const own = jobs.filter((job) => this.#placeOf.get(job)?.place === place);
        if (own.length === 0) return [];
        const innerOf = (job: TakenJob): TakenJob => this.#placeOf.get(job)?.inner ?? job;
        const lostOnes = await consumer.extendLocks(own.map(innerOf));
        return own.filter((job) => lostOnes.includes(innerOf(job)));
      }),
    );
    return lost.flat();
  }

  async waitingCount(): Promise<number> {
    const counts = await Promise.all(this.#consumers.map((consumer) => consumer.waitingCount()));
    return counts.reduce((total, count) => total + count, 0);
  }

  async beat(jobId: string | null): Promise<number> {
    return Math.max(...(await Promise.all(this.#consumers.map((each) => each.beat(jobId)))));
  }

  /** A machine that is sick for one run rests for all. */
  async quarantinedMs(): Promise<number> {
    return Math.max(...(await Promise.all(this.#consumers.map((each) => each.quarantinedMs()))));
  }

  blobs(limits: Parameters<JobConsumer['blobs']>[0]): ReturnType<JobConsumer['blobs']> {
    return at(this.#consumers, 0).blobs(limits);
  }

  async stopWaiting(): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.stopWaiting()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.close()));
  }

  #begun(place: number, inner: TakenJob): TakenJob {
    const startMs = this.#clock.monotonicMs();
    const chargedMs = this.#turns.begin(place);
    const ended = (tookMs: number): void => this.#turns.end(place, chargedMs, tookMs);
    const { jobId, data, refusal, traced } = inner;
    const job: TakenJob = {
      ...{ jobId, data },
      ...(refusal === undefined ? {} : { refusal }),
      ...(traced === undefined ? {} : { traced }),
      origin: at(this.#consumers, place),
      complete: async (result) => {
        await inner.complete(result);
        ended(computeMsOf(result));
      },
      fail: async (failure) => {
        await inner.fail(failure);
        ended(this.#clock.monotonicMs() - startMs);
      },
      handBack: async () => {
        await inner.handBack();
        ended(0);
      },
    };
    this.#placeOf.set(job, { place, inner });
    return job;
  }

  /** Waits for all queues at once. */
  async #firstToCome(): Promise<TakenJob | null> {
    this.#isWaiting = true;
    const waits = this.#consumers.map((_, place) => this.#waitFor(place));
    try {
      return await firstJobOf(waits);
    } finally {
      this.#isWaiting = false;
    }
  }

  #waitFor(place: number): Promise<TakenJob | null> {
    const underWay = this.#waits.get(place);
    if (underWay !== undefined) return underWay;
    const wait = this.#waited(place).finally(() => this.#waits.delete(place));
    this.#waits.set(place, wait);
    return wait;
  }

  async #waited(place: number): Promise<TakenJob | null> {
    const job = await at(this.#consumers, place).take({ wait: true });
    if (job === null) return null;
    if (this.#isWaiting) {
      this.#isWaiting = false;
      return this.#begun(place, job);
    }
    // Another queue was faster. Its lock would not be renewed here.
    await job.handBack().catch((error: unknown) => {
      this.#onError(error instanceof Error ? error : new Error(String(error)));
    });
    return null;
  }
}

/** The first job, or null when all waits have ended without one. */
function firstJobOf(waits: readonly Promise<TakenJob | null>[]): Promise<TakenJob | null> {
  return new Promise((resolve, reject) => {
    let leftCount = waits.length;
    for (const wait of waits)
      wait.then((job) => {
        leftCount -= 1;
        if (job !== null || leftCount === 0) resolve(job);
      }, reject);
  });
}
