/**
 * The jobs of the in-memory queue and their states: waiting, active, finished.
 * It is synchronous, and every call is given the time.
 */

import type { JobLock, LockedJob } from './command-consumer.js';
import { formatJobFailure, WORKER_LOST } from '../../../shared/queue/queue-errors.js';
import type { JobRecord } from '../../../shared/queue/job-queue.js';
import { isLeftover } from '../../../shared/queue/protocol.js';
import {
  FINISHED_COUNT_MAX,
  LOCK_DURATION_MS,
  STALLED_INTERVAL_MS,
} from '../../../shared/queue/timing.js';

interface StoredJob {
  /** JSON, as it would be on a server. */
  readonly data: string;
  state: 'waiting' | 'active' | 'completed' | 'failed';
  lock: { token: string; endMs: number } | null;
  /** The name of the worker that took the job last. */
  worker: string;
  /** Set by the check for stalled jobs; cleared when the lock is extended. */
  isSuspect: boolean;
  /** Set when the job has lost its worker; it fails when it is taken next. */
  hasLostWorker: boolean;
  /** JSON of the result, or the reason of the failure. */
  outcome: string;
}

interface MemoryJobsListener {
  readonly onWaiting: () => void;
  readonly onFinished: (jobId: string) => void;
}

export class MemoryJobs {
  readonly #listener: MemoryJobsListener;
  readonly #byId = new Map<string, StoredJob>();
  /** The next job first. */
  #waiting: string[] = [];
  readonly #active = new Set<string>();
  /** In order of finishing. */
  readonly #finished = new Set<string>();
  #checkedMs = Number.NEGATIVE_INFINITY;

  constructor(listener: MemoryJobsListener) {
    this.#listener = listener;
  }

  add(jobs: readonly { readonly jobId: string; readonly data: string }[]): void {
    for (const { jobId, data } of jobs) {
      if (this.#byId.has(jobId)) continue;
      this.#byId.set(jobId, {
        ...{ data, state: 'waiting', lock: null, worker: '' },
        ...{ isSuspect: false, hasLostWorker: false, outcome: '' },
      });
      this.#waiting.push(jobId);
    }
    this.#listener.onWaiting();
  }

  record(jobId: string): JobRecord {
    const job = this.#byId.get(jobId);
    if (job === undefined) return { state: 'gone' };
    if (job.state === 'failed') return { state: 'failed', reason: job.outcome, worker: job.worker };
    if (job.state !== 'completed')
      return { state: 'open', holder: job.worker === '' ? null : job.worker };
    const returnValue = JSON.parse(job.outcome) as unknown;
    return { state: 'completed', returnValue, worker: job.worker };
  }

  /** Does nothing to a job that is held. */
  remove(jobId: string, nowMs: number): void {
    const job = this.#byId.get(jobId);
    if (job === undefined || (job.lock !== null && job.lock.endMs > nowMs)) return;
    this.#byId.delete(jobId);
    this.#waiting = this.#waiting.filter((id) => id !== jobId);
    for (const ids of [this.#active, this.#finished]) ids.delete(jobId);
  }

  /** Returns the number of removed jobs. */
  removeWaitingOf(runId: string, epoch: number): number {
    const ids = this.#waiting.filter((jobId) =>
      isLeftover(JSON.parse(this.#job(jobId).data), runId, epoch),
    );
    for (const jobId of ids) this.remove(jobId, 0);
    return ids.length;
  }

  clear(): void {
    this.#byId.clear();
    this.#waiting = [];
    for (const ids of [this.#active, this.#finished]) ids.clear();
  }

  /** Returns a function that brings the jobs of now back. */
  remember(): () => void {
    const jobs = structuredClone(this.#byId);
    const [waiting, active, finished] = [
      [...this.#waiting],
      [...this.#active],
      [...this.#finished],
    ];
    return () => {
      this.clear();
      for (const [jobId, job] of structuredClone(jobs)) this.#byId.set(jobId, job);
      this.#waiting = [...waiting];
      for (const jobId of active) this.#active.add(jobId);
      for (const jobId of finished) this.#finished.add(jobId);
      this.#listener.onWaiting();
    };
  }

  take(holder: Pick<JobLock, 'token' | 'worker'>, nowMs: number): LockedJob | null {
    for (;;) {
      const jobId = this.#waiting.shift();
      if (jobId === undefined) return null;
      const job = this.#job(jobId);
      job.state = 'active';
      job.lock = { token: holder.token, endMs: nowMs + LOCK_DURATION_MS };
      job.worker = holder.worker;
      this.#active.add(jobId);
      const lock = { jobId, ...holder };
      if (!job.hasLostWorker) return { lock, data: JSON.parse(job.data) as unknown };
      this.fail(lock, formatJobFailure(WORKER_LOST), nowMs);
    }
  }

  /** Returns whether the lock was held and now has its full length again. */
  extend({ jobId, token }: JobLock, nowMs: number): boolean {
    const job = this.#byId.get(jobId);
    if (job?.lock?.token !== token || job.lock.endMs <= nowMs) return false;
    job.lock.endMs = nowMs + LOCK_DURATION_MS;
    job.isSuspect = false;
    return true;
  }

  complete(lock: JobLock, returnValue: string, nowMs: number): void {
    this.#finish(this.#released(lock, nowMs), lock.jobId, {
      state: 'completed',
      outcome: returnValue,
    });
  }

  fail(lock: JobLock, reason: string, nowMs: number): void {
    this.#finish(this.#released(lock, nowMs), lock.jobId, {
      state: 'failed',
      outcome: reason,
    });
  }

  handBack(lock: JobLock, nowMs: number): void {
    this.#putBack(this.#released(lock, nowMs), lock.jobId);
  }

  /**
   * Puts jobs back that had no lock at this check and were suspect since the one before. At most
   * once per interval, however many producers ask.
   */
  checkForStalled(nowMs: number): void {
    if (nowMs - this.#checkedMs < STALLED_INTERVAL_MS) return;
    this.#checkedMs = nowMs;
    for (const jobId of [...this.#active]) {
      const job = this.#job(jobId);
      const hasLock = job.lock !== null && job.lock.endMs > nowMs;
      if (!job.isSuspect || hasLock) {
        job.isSuspect = true;
        continue;
      }
      job.hasLostWorker = true;
      this.#active.delete(jobId);
      this.#putBack(job, jobId);
    }
  }

  #job(jobId: string): StoredJob {
    const job = this.#byId.get(jobId);
    if (job === undefined)
      throw new Error(`the lists of the queue hold job ${jobId}, which is gone`);
    return job;
  }

  /** The job of a lock, which ends with it. */
  #released({ jobId, token }: JobLock, nowMs: number): StoredJob {
    const job = this.#byId.get(jobId);
    if (job?.lock?.token !== token || job.lock.endMs <= nowMs)
      throw new Error(`Missing lock for job ${jobId}`);
    job.lock = null;
    this.#active.delete(jobId);
    return job;
  }

  #putBack(job: StoredJob, jobId: string): void {
    job.state = 'waiting';
    job.lock = null;
    job.isSuspect = false;
    this.#waiting.unshift(jobId);
    this.#listener.onWaiting();
  }

  #finish(
    job: StoredJob,
    jobId: string,
    { state, outcome }: { state: 'completed' | 'failed'; outcome: string },
  ): void {
    Object.assign(job, { state, outcome, isSuspect: false });
    this.#finished.add(jobId);
    for (const oldest of this.#finished) {
      if (this.#finished.size <= FINISHED_COUNT_MAX) break;
      this.#finished.delete(oldest);
      this.#byId.delete(oldest);
    }
    this.#listener.onFinished(jobId);
  }
}
