/**
 * Keeps a worker that has refused a job away from the queue for a while. The next job is most
 * likely of the same run, and the idle worker would take every job from workers that can do them.
 */

const REST_MS_MIN = 1_000;
/** Bounds the time that another run, whose jobs the worker could do, waits for it. */
const REST_MS_MAX = 10_000;

export class RefusalRest {
  #refusalCount = 0;
  #dueMs = 0;

  /** True when the worker has refused a job since it last did one. It then holds no job ahead. */
  get isDoubtful(): boolean {
    return this.#refusalCount > 0;
  }

  refused(): void {
    this.#dueMs = Math.min(REST_MS_MIN * 2 ** this.#refusalCount, REST_MS_MAX);
    this.#refusalCount += 1;
  }

  done(): void {
    this.#refusalCount = 0;
    this.#dueMs = 0;
  }

  /** Returns the rest that is due, in milliseconds. It is due once. */
  take(): number {
    const dueMs = this.#dueMs;
    this.#dueMs = 0;
    return dueMs;
  }
}
