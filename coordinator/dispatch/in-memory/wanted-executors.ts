/** How many executors are worth their cost, as far as the jobs that were computed tell. */

/** Time that each executor costs a call: inputs travel to another process, and results come back. */
const HAND_OVER_MS = 8;
/** Starting a process takes about a second of a core, which work that soon ends does not earn. */
const COMPUTED_MS_MIN = 500;
/** The first jobs of a run capture graphs. The fastest of so many has not. */
const JOBS_MIN = 8;
/** Jobs of seconds tell enough, however few they are. */
const COMPUTED_MS_ENOUGH = 2_000;

interface ComputedJob {
  readonly taskCount: number;
  readonly computeMs: number;
}

export class ComputePace {
  #jobCount = 0;
  #computedMs = 0;
  /** Durations of the latest jobs. The fastest one tells most: others captured graphs, or waited for a core. */
  readonly #msPerTask: number[] = [];

  note({ taskCount, computeMs }: ComputedJob): void {
    this.#jobCount += 1;
    this.#computedMs += computeMs;
    this.#msPerTask.push(computeMs / Math.max(1, taskCount));
    if (this.#msPerTask.length > JOBS_MIN) this.#msPerTask.shift();
  }

  /**
   * The number of executors with which calls of so many tasks end first. N executors compute for a share of the time and
   * cost N hand-overs, which is least at the square root. 1 until there is something to tell.
   */
  wantedCount(taskCount: number): number {
    const isKnown =
      (this.#jobCount >= JOBS_MIN && this.#computedMs >= COMPUTED_MS_MIN) ||
      this.#computedMs >= COMPUTED_MS_ENOUGH;
    if (!isKnown) return 1;
    const computeMs = Math.min(...this.#msPerTask) * taskCount;
    const best = Math.floor(Math.sqrt(computeMs / HAND_OVER_MS));
    return Math.max(1, Math.min(best, taskCount));
  }
}
