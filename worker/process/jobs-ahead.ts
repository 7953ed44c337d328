/**
 * Keeps what a compute process says about jobs that it was told to compute and that nobody waits for yet:
 * the job ahead begins by itself, so its answer may come early.
 */

import type { ComputeReply } from './compute-protocol.js';
import type { Heartbeat } from './compute-failures.js';

/** A reply that belongs to a job. */
export type JobReply = Extract<ComputeReply, { kind: 'done' | 'failed' | 'progress' }>;

interface JobAhead {
  heartbeat: Heartbeat | null;
  answer: Exclude<JobReply, { kind: 'progress' }> | null;
}

export class JobsAhead {
  readonly #byRequest = new Map<number, JobAhead>();
  /** Requests that were taken back, and may be answered all the same. */
  readonly #forgotten = new Set<number>();

  has(requestId: number): boolean {
    return this.#byRequest.has(requestId);
  }

  add(requestId: number): void {
    this.#byRequest.set(requestId, { heartbeat: null, answer: null });
  }

  /** Returns what was said about a job that is waited for from now on. */
  take(requestId: number): JobAhead | null {
    const job = this.#byRequest.get(requestId) ?? null;
    this.#byRequest.delete(requestId);
    return job;
  }

  forget(requestId: number): void {
    if (this.#byRequest.delete(requestId)) this.#forgotten.add(requestId);
  }

  /** Jobs are answered in turn, so an earlier one that was taken back was dropped in time. */
  answered(requestId: number): void {
    for (const earlier of this.#forgotten) if (earlier < requestId) this.#forgotten.delete(earlier);
  }

  /** Returns false for a reply that belongs to no job ahead. */
  keep(reply: JobReply, nowMs: number): boolean {
    const { requestId } = reply;
    if (requestId === null) return false;
    if (this.#forgotten.has(requestId)) {
      if (reply.kind !== 'progress') this.#forgotten.delete(requestId);
      return true;
    }
    const job = this.#byRequest.get(requestId);
    if (job === undefined || job.answer !== null) return false;
    if (reply.kind === 'progress') job.heartbeat = { progress: reply.progress, atMs: nowMs };
    else job.answer = reply;
    return true;
  }
}
