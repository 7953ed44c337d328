/**
 * The job queue in this process, by the rules of `job-queue.ts` and on the clock it is given. Jobs
 * and results pass as JSON, as they would over a network. It never loses an event by itself.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { decodeOrders, encodeOrders } from '../../../shared/queue/run-orders.js';
import type { BlobStore } from '../../../shared/storage/blob-store.js';
import { MemoryBlobStore } from './memory-blob-store.js';
import { CommandConsumer, type ConsumerCommands, type LockedJob } from './command-consumer.js';
import { formatJobFailure } from '../../../shared/queue/queue-errors.js';
import type {
  JobConsumer,
  JobProducer,
  JobQueue,
  JobRecord,
  OpenConsumerOptions,
  QueueController,
  WakeUp,
} from '../../../shared/queue/job-queue.js';
import { MemoryJobs } from './memory-jobs.js';
import { MemoryLeases, MemoryWorkers, restore } from './memory-lives.js';
import { startOf } from '../../../shared/queue/redis-registry.js';
import { type Job, QUEUED_BYTE_COUNT_MAX } from '../../../shared/queue/protocol.js';
import { STALLED_INTERVAL_MS } from '../../../shared/queue/timing.js';

export class MemoryJobQueue implements JobQueue {
  readonly address = 'memory';
  readonly #clock: Clock;
  readonly #blobs: BlobStore;
  readonly #jobs: MemoryJobs;
  readonly #workers: MemoryWorkers;
  readonly #leases: MemoryLeases;
  readonly #quarantineEndMs = new Map<string, number>();
  readonly #listeners = new Set<WakeUp>();
  /** End the waits of consumers that have found no job. */
  readonly #waits = new Set<AbortController>();

  constructor({ clock, blobs = new MemoryBlobStore() }: { clock: Clock; blobs?: BlobStore }) {
    this.#clock = clock;
    this.#workers = new MemoryWorkers(clock);
    this.#leases = new MemoryLeases(clock);
    this.#blobs = blobs;
    this.#jobs = new MemoryJobs({
      onWaiting: () => {
        for (const wait of this.#waits) wait.abort();
      },
      onFinished: (jobId) => {
        const record = this.#jobs.record(jobId);
        const told = record.state === 'completed' ? { ...record, worker: '' } : undefined;
        for (const listener of this.#listeners) listener(jobId, told);
      },
    });
  }

  /** Adds jobs whoever has the lease. A simulation compares the epoch afterwards, as clients of Redis do. */
  addUnfenced(added: Parameters<JobProducer['add']>[0]): void {
    this.#jobs.add(added.map(({ jobId, job }) => ({ jobId, data: dataOf(jobId, job) })));
  }

  /** Returns a function that brings back all but the blobs of now, as a replica does that takes over. */
  remember(): () => void {
    const parts = [this.#jobs, this.#workers, this.#leases].map((part) => part.remember());
    const quarantines = new Map(this.#quarantineEndMs);
    return () => {
      for (const restorePart of parts) restorePart();
      restore(this.#quarantineEndMs, quarantines);
    };
  }

  openProducer(start: string): Promise<JobProducer> {
    const closed = new AbortController();
    void this.#checkForStalledJobs(closed.signal);
    return Promise.resolve({
      ...this.#producing(),
      blobs: () => this.#blobs,
      workers: () => Promise.resolve(this.#workers.live()),
      quarantine: (worker, durationMs) => {
        this.#quarantineEndMs.set(worker, this.#nowMs() + durationMs);
        return Promise.resolve();
      },
      subscribe: (listener) => {
        const own: WakeUp = (jobId, record) => {
          if (start === '' || startOf(jobId) === start) listener(jobId, record);
        };
        this.#listeners.add(own);
        return () => void this.#listeners.delete(own);
      },
      close: () => {
        closed.abort();
        return Promise.resolve();
      },
    });
  }

  openConsumer(options: OpenConsumerOptions): Promise<JobConsumer> {
    return Promise.resolve(new CommandConsumer(this.enter(options), this.#clock, options));
  }

  /** Registers a worker, and returns the commands of its consumer. */
  enter({
    name,
    nonce,
    device,
    report = () => null,
  }: Omit<OpenConsumerOptions, 'process' | 'onError' | 'onReconnected'>): ConsumerCommands {
    const self = this.#workers.enter({ name, instance: nonce, device, report: report() });
    // Async functions, so that a refusal is a rejection.
    /* eslint-disable @typescript-eslint/require-await */
    return {
      server: this.address,
      name: self.name,
      blobs: () => this.#blobs,
      take: (token, waitMs, signal) => this.#take({ token, worker: self.name }, waitMs, signal),
      extend: async (lock) => this.#jobs.extend(lock, this.#nowMs()),
      end: async (lock, outcome) => {
        const nowMs = this.#nowMs();
        if (outcome.kind === 'completed')
          this.#jobs.complete(lock, JSON.stringify(outcome.result), nowMs);
        else if (outcome.kind === 'failed')
          this.#jobs.fail(lock, formatJobFailure(outcome.failure), nowMs);
        else this.#jobs.handBack(lock, nowMs);
      },
      beat: async (jobId) => this.#workers.beat({ ...self, jobId, report: report() }),
      quarantinedMs: async () => {
        const endMs = this.#quarantineEndMs.get(self.name) ?? Number.NEGATIVE_INFINITY;
        return Math.max(0, endMs - this.#nowMs());
      },
      leave: async () => this.#workers.leave(self.instance),
    };
    /* eslint-enable @typescript-eslint/require-await */
  }

  openController(): Promise<QueueController> {
    return Promise.resolve({
      workers: () => Promise.resolve(this.#workers.live()),
      find: (runId) => Promise.resolve(this.#leases.find(runId)),
      endOf: (runId, start) => Promise.resolve(this.#leases.endOf(runId, start)),
      replace: (runId, earlier, orders) => {
        const copied = decodeOrders(encodeOrders(orders));
        return Promise.resolve(this.#leases.replaceOrders(runId, earlier, copied));
      },
      withdraw: (runId, change) => Promise.resolve(this.#leases.withdrawOrders(runId, change)),
      close: () => Promise.resolve(),
    });
  }

  #nowMs(): number {
    return this.#clock.monotonicMs();
  }

  #producing(): Omit<JobProducer, 'blobs' | 'workers' | 'quarantine' | 'subscribe' | 'close'> {
    let held: { readonly runId: string; readonly epoch: number } | null = null;
    // Async functions, so that a refusal is a rejection.
    /* eslint-disable @typescript-eslint/require-await */
    return {
      takeLease: async (runId, holder, over) => {
        const answer = this.#leases.take(runId, holder, over);
        if (answer.kind === 'taken') held = { runId, epoch: answer.epoch };
        return answer;
      },
      renewLease: async (holder) => {
        if (held === null) throw new Error('the lease was not taken');
        return this.#leases.renew(held.runId, held.epoch, holder);
      },
      releaseLease: async (terms) => {
        if (held !== null) this.#leases.release(held.runId, held.epoch, terms);
        held = null;
      },
      add: async (added) => {
        if (held !== null) this.#leases.demand(held.runId, held.epoch);
        this.addUnfenced(added);
      },
      read: (jobId): Promise<JobRecord> => Promise.resolve(this.#jobs.record(jobId)),
      remove: (jobIds) => {
        for (const jobId of jobIds) this.#jobs.remove(jobId, this.#nowMs());
        return Promise.resolve();
      },
      removeLeftovers: async (runId, epoch) => this.#jobs.removeWaitingOf(runId, epoch),
    };
    /* eslint-enable @typescript-eslint/require-await */
  }

  async #take(
    holder: { readonly token: string; readonly worker: string },
    waitMs: number,
    stopped: AbortSignal,
  ): Promise<LockedJob | null> {
    const untilMs = this.#nowMs() + waitMs;
    while (!stopped.aborted) {
      const nowMs = this.#nowMs();
      const taken = this.#jobs.take(holder, nowMs);
      if (taken !== null) return taken;
      if (nowMs >= untilMs) return null;
      await this.#arrival(untilMs - nowMs, stopped);
    }
    return null;
  }

  /** Resolves when a job may have come, when the time is over, or when the signal aborts. */
  async #arrival(waitMs: number, stopped: AbortSignal): Promise<void> {
    const wait = new AbortController();
    const end = (): void => wait.abort();
    stopped.addEventListener('abort', end, { once: true });
    this.#waits.add(wait);
    await this.#clock.sleep(waitMs, wait.signal);
    this.#waits.delete(wait);
    stopped.removeEventListener('abort', end);
  }

  async #checkForStalledJobs(closed: AbortSignal): Promise<void> {
    while (!closed.aborted) {
      this.#jobs.checkForStalled(this.#nowMs());
      await this.#clock.sleep(STALLED_INTERVAL_MS, closed);
    }
  }
}

function dataOf(jobId: string, job: Job): string {
  const data = JSON.stringify(job);
  if (Buffer.byteLength(data) <= QUEUED_BYTE_COUNT_MAX) return data;
  throw new Error(`The size of job ${jobId} exceeds the limit ${QUEUED_BYTE_COUNT_MAX} bytes`);
}
