/**
 * Keeps a worker away from the queue for a while after jobs that it could not do. It is idle and
 * quick, so it would take every job from the workers that can do them.
 */

/** The first and the longest rest of each kind, in milliseconds. Rests double with every job. */
const RESTS = {
  /** Bounds the time that another run, whose jobs the worker could do, waits for it. */
  refused: { firstMs: 1_000, longestMs: 10_000 },
  /** Shorter than most delays of the job that was left to others, so that both do not keep step. */
  declined: { firstMs: 50, longestMs: 50 },
  sick: { firstMs: 1_000, longestMs: 60_000 },
  /** Short, because the failure may be the job's. */
  failed: { firstMs: 50, longestMs: 10_000 },
} as const;

export type RestCause = keyof typeof RESTS;

export class WorkerRest {
  /** Jobs that the worker could not do since it last did one. */
  #undoneCount = 0;
  #dueMs = 0;

  /** True when the worker could not do its latest job. It then holds no job ahead. */
  get isDoubtful(): boolean {
    return this.#undoneCount > 0;
  }

  couldNot(cause: RestCause): void {
    const { firstMs, longestMs } = RESTS[cause];
    this.#dueMs = Math.min(firstMs * 2 ** this.#undoneCount, longestMs);
    this.#undoneCount += 1;
  }

  did(): void {
    this.#undoneCount = 0;
    this.#dueMs = 0;
  }

  /** Returns the rest that is due, in milliseconds. It is due once. */
  take(): number {
    const dueMs = this.#dueMs;
    this.#dueMs = 0;
    return dueMs;
  }
}
