/**
 * How long a worker that has refused a job stays away from the queue. The next is most likely of the
 * same run, and idle as it is it would take every job from under those that can do them.
 */

const REST_MS_MIN = 1_000;
/** Bounds what another run, whose jobs it could do, waits for it. */
const REST_MS_MAX = 10_000;

export class RefusalRest {
  #refusalCount = 0;
  #dueMs = 0;

  /** Whether it has refused since it last did a job: then it holds none ahead. */
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

  /** The rest that is due, in milliseconds; it is due once. */
  take(): number {
    const dueMs = this.#dueMs;
    this.#dueMs = 0;
    return dueMs;
  }
}
