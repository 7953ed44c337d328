/**
 * The worker's end of the BullMQ queue: takes jobs one by one, holds their locks, and finishes them
 * or hands them back. BullMQ's own loop is not used, for it cannot take a job ahead only when no
 * other worker would go without.
 */

import { randomUUID } from 'node:crypto';
import { Queue, UnrecoverableError, Worker, type Job as QueuedJob } from 'bullmq';
import type { Clock } from '../../shared/base/clock.js';
import { formatJobFailure, type JobFailure } from '../../shared/queue/job-failure.js';
import { INNER_LOOP_QUEUE, type JobResult } from '../../shared/queue/protocol.js';
import {
  LOCK_DURATION_MS,
  LOCK_RENEWAL_INTERVAL_MS,
  STALLED_INTERVAL_MS,
  STALLS_PER_DELIVERY_MAX,
} from '../../shared/queue/timing.js';
import { workerNamesOf } from '../../shared/queue/worker-names.js';
import { isRedisOutage, type RedisConnection } from '../../shared/queue/redis-connection.js';

/** Wait before asking a Redis that was away again. */
const RETRY_DELAY_MS = 500;
/** Longest wait for a job in one command. */
const DRAIN_DELAY_S = 5;
/** Workers come and go rarely, and counting them lists every connection of the server. */
const WORKER_COUNT_AGE_MS_MAX = 5_000;
const METRICS_MINUTES_KEPT = 24 * 60;

/** A job that is this worker's as long as its lock holds. */
export interface HeldJob {
  readonly jobId: string;
  readonly data: unknown;
  /** Aborts when the lock is lost: the job is somebody else's, or gone. */
  readonly lost: AbortSignal;
  complete(result: JobResult): Promise<void>;
  fail(failure: JobFailure): Promise<void>;
  handBack(): Promise<void>;
}

export interface QueueIntakeOptions {
  /** Belongs to the caller, who closes it. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly name: string;
  readonly clock: Clock;
  readonly onError: (error: Error) => void;
}

type Taken = QueuedJob<unknown, JobResult>;

interface Lock {
  readonly token: string;
  readonly lost: AbortController;
}

export class QueueIntake {
  readonly #options: QueueIntakeOptions;
  readonly #worker: Worker<unknown, JobResult>;
  readonly #queue: Queue;
  readonly #lockByJobId = new Map<string, Lock>();
  readonly #closing = new AbortController();
  readonly #tokenBase = randomUUID();
  #takenCount = 0;
  #workers = { count: 1, countedMs: Number.NEGATIVE_INFINITY };
  /** The wait under way, whose job nobody has been given yet. */
  #taking: Promise<HeldJob | null> = Promise.resolve(null);

  constructor(options: QueueIntakeOptions) {
    const { redis: connection, prefix, name, onError } = options;
    this.#options = options;
    this.#worker = new Worker(INNER_LOOP_QUEUE, null, {
      connection,
      prefix,
      name,
      drainDelay: DRAIN_DELAY_S,
      lockDuration: LOCK_DURATION_MS,
      stalledInterval: STALLED_INTERVAL_MS,
      maxStalledCount: STALLS_PER_DELIVERY_MAX,
      // The coordinators look for stalled jobs; with N workers doing it too nothing is won.
      skipStalledCheck: true,
      metrics: { maxDataPoints: METRICS_MINUTES_KEPT },
    });
    this.#queue = new Queue(INNER_LOOP_QUEUE, { connection, prefix });
    this.#worker.on('error', onError);
    this.#queue.on('error', onError);
    void this.#renewLocks();
  }

  /** Waits for a job; null when none came for a while, or when the intake closes meanwhile. */
  async next(): Promise<HeldJob | null> {
    const closing = this.#closing.signal;
    if (closing.aborted) return null;
    this.#taking = this.#take({ block: true });
    let onClosing = (): void => undefined;
    const closed = new Promise<null>((resolve) => {
      onClosing = () => resolve(null);
      closing.addEventListener('abort', onClosing, { once: true });
    });
    try {
      const held = await Promise.race([this.#taking, closed]);
      if (held !== null) this.#taking = Promise.resolve(null);
      return held;
    } finally {
      closing.removeEventListener('abort', onClosing);
    }
  }

  /**
   * A job to hold while another is computed, when the queue has at least one for every worker: then
   * nobody goes without.
   */
  async nextAhead(): Promise<HeldJob | null> {
    if (this.#closing.signal.aborted) return null;
    const isPlenty = await this.#answered(async () => {
      const waitingCount = await this.#queue.getWaitingCount();
      return waitingCount > 0 && waitingCount >= (await this.#workerCount());
    });
    return isPlenty === true ? this.#take({ block: false }) : null;
  }

  /** Whether a job that was taken ahead keeps another worker waiting. */
  async isQueueEmptyForOthers(): Promise<boolean> {
    const isEmpty = await this.#answered(
      async () => (await this.#queue.getWaitingCount()) === 0 && (await this.#workerCount()) > 1,
    );
    return isEmpty === true;
  }

  /** Ends waiting for jobs; what is held can still be finished or handed back. */
  stopTaking(): void {
    this.#closing.abort();
  }

  async close(): Promise<void> {
    this.stopTaking();
    // Ends a wait under way, which may have brought a job in its last moment.
    await this.#worker.close(true);
    const late = await this.#taking;
    await late?.handBack();
    await this.#queue.close();
  }

  async #take({ block }: { readonly block: boolean }): Promise<HeldJob | null> {
    this.#takenCount += 1;
    const token = `${this.#tokenBase}:${this.#takenCount}`;
    try {
      // Its type leaves out that there may be none.
      const queued = (await this.#worker.getNextJob(token, { block })) as Taken | undefined;
      return queued?.id === undefined ? null : this.#held(queued, queued.id, token);
    } catch (error) {
      if (this.#closing.signal.aborted) return null;
      this.#report(error);
      await this.#options.clock.sleep(RETRY_DELAY_MS, this.#closing.signal);
      return null;
    }
  }

  #held(queued: Taken, jobId: string, token: string): HeldJob {
    const earlier = this.#lockByJobId.get(jobId);
    if (earlier !== undefined) this.#lose(jobId, earlier);
    const lost = new AbortController();
    const lock = { token, lost };
    this.#lockByJobId.set(jobId, lock);
    const settle = async (move: () => Promise<unknown>): Promise<void> => {
      // This worker may have taken the job again.
      if (this.#lockByJobId.get(jobId) === lock) this.#lockByJobId.delete(jobId);
      // What lost its lock is not ours to move.
      if (!lost.signal.aborted) await this.#moved(move);
    };
    return {
      jobId,
      data: queued.data,
      lost: lost.signal,
      complete: (result) => settle(() => queued.moveToCompleted(result, token, false)),
      fail: (failure) => {
        const text = formatJobFailure(failure);
        // BullMQ keeps the text alone, and tells errors apart by the exact class.
        const error = failure.kind === 'permanent' ? new UnrecoverableError(text) : new Error(text);
        return settle(() => queued.moveToFailed(error, token, false));
      },
      handBack: () => settle(() => queued.moveToWait(token)),
    };
  }

  /** Moves a job however long Redis is away; a refused move leaves it to the end of its lock. */
  async #moved(move: () => Promise<unknown>): Promise<void> {
    for (;;) {
      try {
        await move();
        return;
      } catch (error) {
        this.#report(error);
        if (!isRedisOutage(error) || this.#closing.signal.aborted) return;
        await this.#options.clock.sleep(RETRY_DELAY_MS, this.#closing.signal);
      }
    }
  }

  async #renewLocks(): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      await clock.sleep(LOCK_RENEWAL_INTERVAL_MS, this.#closing.signal);
      if (this.#closing.signal.aborted) return;
      const held = [...this.#lockByJobId];
      if (held.length === 0) continue;
      const lostIds = await this.#answered(() =>
        this.#worker.extendJobLocks(
          held.map(([jobId]) => jobId),
          held.map(([, { token }]) => token),
          LOCK_DURATION_MS,
        ),
      );
      for (const [jobId, lock] of held)
        // One that was finished meanwhile has no lock either.
        if (lostIds?.includes(jobId) === true && this.#lockByJobId.get(jobId) === lock)
          this.#lose(jobId, lock);
    }
  }

  /** Whoever held the job may never settle it, so its lock is forgotten here. */
  #lose(jobId: string, { lost }: Lock): void {
    this.#lockByJobId.delete(jobId);
    this.#report(new Error(`the lock of job ${jobId} is lost`));
    lost.abort();
  }

  async #workerCount(): Promise<number> {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#workers.countedMs > WORKER_COUNT_AGE_MS_MAX) {
      const names = workerNamesOf(await this.#queue.getWorkers());
      this.#workers = { count: Math.max(1, names.length), countedMs: nowMs };
    }
    return this.#workers.count;
  }

  /** Null when Redis does not answer, which is reported. */
  async #answered<Answer>(ask: () => Promise<Answer>): Promise<Answer | null> {
    try {
      return await ask();
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#report(error);
      return null;
    }
  }

  #report(error: unknown): void {
    this.#options.onError(error instanceof Error ? error : new Error(String(error)));
  }
}
