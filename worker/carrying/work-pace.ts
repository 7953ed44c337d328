/**
 * When a worker fetches its next job: so long before the job under way ends that the fetch is over by then.
 * Both times are estimated by the latest job. Results do not depend on them.
 */

/** Bounds the time by which a job is taken from workers that might become idle earlier. */
const LEAD_MS_MAX = 100;
const LEAD_MS_MIN = 5;
/** A worker that has computed nothing yet takes no job from others. */
const FIRST_JOB_MS = 3_600_000;
/** The next fetch may take longer than the latest one. */
const LEAD_PER_FETCH = 2;

export class WorkPace {
  #startedMs = 0;
  #computeMs = FIRST_JOB_MS;
  #fetchMs = LEAD_MS_MAX / LEAD_PER_FETCH;

  started(nowMs: number): void {
    this.#startedMs = nowMs;
  }

  computed(durationMs: number): void {
    this.#computeMs = durationMs;
  }

  fetched(durationMs: number): void {
    this.#fetchMs = durationMs;
  }

  /** The time until the next job should be taken. */
  waitMs(nowMs: number): number {
    const leadMs = Math.min(LEAD_MS_MAX, Math.max(LEAD_MS_MIN, this.#fetchMs * LEAD_PER_FETCH));
    return Math.max(0, this.#startedMs + this.#computeMs - leadMs - nowMs);
  }
}
