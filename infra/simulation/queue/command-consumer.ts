/**
 * The worker's end of a queue that is reached by commands: takes jobs, has them processed, and keeps their locks, as
 * BullMQ does on Redis. The commands may fail or be late, so a simulation can put a network behind them.
 */

import type { Clock } from '../../../shared/base/clock.js';
import type { BlobStore } from '../../../shared/storage/blob-store.js';
import type {
  BlobLimits,
  JobConsumer,
  JobOutcome,
  OpenConsumerOptions,
  TakeTerms,
} from '../../../shared/queue/job-queue.js';
import { LOCK_RENEWAL_INTERVAL_MS, TAKE_WAIT_MS_MAX } from '../../../shared/queue/timing.js';

const RETRY_DELAY_MS = 500;

/** The lock of a job. It holds while the queue has the same token and its time has not passed. */
export interface JobLock {
  readonly jobId: string;
  readonly token: string;
  readonly worker: string;
}

export interface LockedJob {
  readonly lock: JobLock;
  readonly data: unknown;
}

export interface ConsumerCommands {
  readonly server: string;
  readonly name: string;
  /** Waits for a job, at most this long and until the signal aborts. */
  take(token: string, waitMs: number, signal: AbortSignal): Promise<LockedJob | null>;
  /** Returns whether the lock was held and now has its full length again. */
  extend(lock: JobLock): Promise<boolean>;
  /** @throws Error when the lock was lost. */
  end(lock: JobLock, outcome: Exclude<JobOutcome, { kind: 'lost' }>): Promise<void>;
  beat(jobId: string | null): Promise<number>;
  quarantinedMs(): Promise<number>;
  blobs(limits: BlobLimits): BlobStore;
  leave(): Promise<void>;
}

type ConsumerOptions = Pick<OpenConsumerOptions, 'nonce' | 'process' | 'onError'>;

export class CommandConsumer implements JobConsumer {
  readonly #commands: ConsumerCommands;
  readonly #clock: Clock;
  readonly #options: ConsumerOptions;
  readonly #stopped = new AbortController();
  readonly #closed = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #wanted: TakeTerms | null = null;
  #isTaking = false;
  #takenCount = 0;
  #wait = new AbortController();

  constructor(commands: ConsumerCommands, clock: Clock, options: ConsumerOptions) {
    this.#commands = commands;
    this.#clock = clock;
    this.#options = options;
  }

  get server(): string {
    return this.#commands.server;
  }

  get name(): string {
    return this.#commands.name;
  }

  takeOne(how: TakeTerms): void {
    if (this.#wanted?.waits === true || this.#stopped.signal.aborted) return;
    this.#wanted = how;
    if (!this.#isTaking) void this.#take();
  }

  pause(): void {
    this.#wanted = null;
    this.#wait.abort();
  }

  beat(jobId: string | null): Promise<number> {
    return this.#commands.beat(jobId);
  }

  quarantinedMs(): Promise<number> {
    return this.#commands.quarantinedMs();
  }

  blobs(limits: BlobLimits): BlobStore {
    return this.#commands.blobs(limits);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.pause();
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  async close(): Promise<void> {
    this.#stopped.abort();
    this.#closed.abort();
    this.pause();
    await this.#commands.leave();
  }

  async #take(): Promise<void> {
    this.#isTaking = true;
    while (this.#wanted !== null && this.#underWay.size < this.#wanted.heldMax) {
      const wanted = this.#wanted;
      this.#takenCount += 1;
      const token = `${this.#options.nonce}:${this.#takenCount}`;
      this.#wait = new AbortController();
      try {
        const waitMs = wanted.waits ? TAKE_WAIT_MS_MAX : 0;
        const taken = await this.#commands.take(token, waitMs, this.#wait.signal);
        if (taken !== null) this.#begin(taken);
        else if (this.#wanted === wanted && !wanted.waits) this.#wanted = null;
      } catch (error) {
        this.#report(error);
        await this.#clock.sleep(RETRY_DELAY_MS, this.#stopped.signal);
      }
    }
    this.#isTaking = false;
  }

  #begin(taken: LockedJob): void {
    this.#wanted = null;
    const processing = this.#processed(taken).finally(() => {
      this.#underWay.delete(processing);
      if (!this.#isTaking) void this.#take();
    });
    this.#underWay.add(processing);
  }

  async #processed({ lock, data }: LockedJob): Promise<void> {
    const lost = new AbortController();
    const ended = new AbortController();
    void this.#renew(lock, lost, ended.signal);
    const outcome = await this.#options.process({ jobId: lock.jobId, data }, lost.signal);
    ended.abort();
    if (outcome.kind === 'lost' || this.#closed.signal.aborted) return;
    try {
      await this.#commands.end(lock, outcome);
    } catch (error) {
      // The lock ends, and the job is delivered again.
      this.#report(error);
    }
  }

  async #renew(lock: JobLock, lost: AbortController, ended: AbortSignal): Promise<void> {
    const isOver = (): boolean => ended.aborted || this.#closed.signal.aborted;
    for (;;) {
      await this.#clock.sleep(LOCK_RENEWAL_INTERVAL_MS, ended);
      if (isOver()) return;
      try {
        if (await this.#commands.extend(lock)) continue;
      } catch (error) {
        this.#report(error);
        continue;
      }
      if (isOver()) return;
      this.#report(new Error(`could not renew lock for job ${lock.jobId}`));
      lost.abort();
      return;
    }
  }

  #report(error: unknown): void {
    if (this.#closed.signal.aborted) return;
    this.#options.onError(error instanceof Error ? error : new Error(String(error)));
  }
}
