/**
 * When a worker fetches its next job: so long before the job under way ends that the fetch is over by then.
 * The end is estimated by the sizes and times of earlier jobs. Results do not depend on it.
 */

import { taskCountOf, type Job } from '../../shared/queue/protocol.js';

/** Bounds the time by which a job is taken from workers that might become idle earlier. */
const LEAD_MS_MAX = 100;
const LEAD_MS_MIN = 5;
/** A worker that has computed nothing yet takes no job from others. */
const FIRST_JOB_MS = 3_600_000;
/** The next fetch may take longer than the latest one. */
const LEAD_PER_FETCH = 2;
/** An estimate may be wrong by this share. */
const LEAD_SHARE = 0.1;

/** Most of a job's rows come in its row pack. */
export function jobSizeOf(job: Job): number {
  return job.rowPack?.byteCount ?? taskCountOf(job);
}

export class WorkPace {
  readonly #times = new TimeBySize();
  #startedMs = 0;
  #size = 0;
  #fetchMs = LEAD_MS_MAX / LEAD_PER_FETCH;
  #fetching: Promise<unknown> = Promise.resolve();

  /** Returns the inputs of the job that is computed next, for whoever tells when it has started. */
  begins<Input>(fetching: Promise<Input>): Promise<Input> {
    this.#fetching = fetching;
    return fetching;
  }

  /** Resolves when the job under way has its inputs. Before, `waitMs` is that of an earlier job, which has ended. */
  async hasInputs(): Promise<void> {
    await this.#fetching.catch(() => undefined);
  }

  /** @param size of the job, in any unit that all jobs have alike. */
  started(nowMs: number, size: number): void {
    this.#startedMs = nowMs;
    this.#size = size;
  }

  computed(durationMs: number, size: number): void {
    this.#times.note(size, durationMs);
  }

  fetched(durationMs: number): void {
    this.#fetchMs = durationMs;
  }

  /** The time until the next job should be taken. */
  waitMs(nowMs: number): number {
    const computeMs = this.#times.expectedMs(this.#size) ?? FIRST_JOB_MS;
    const wantedMs = Math.max(this.#fetchMs * LEAD_PER_FETCH, LEAD_SHARE * computeMs);
    const leadMs = Math.min(LEAD_MS_MAX, Math.max(LEAD_MS_MIN, wantedMs));
    return Math.max(0, this.#startedMs + computeMs - leadMs - nowMs);
  }
}

/** The weight of a job that is so many jobs ago: this to the power of their number. */
const WEIGHT_OF_EARLIER = 0.9;

/** The line of least squares through the times of the latest jobs over their sizes. */
class TimeBySize {
  #weight = 0;
  #meanSize = 0;
  #meanMs = 0;
  /** Weighted sums of squares and of products of the distances from the means. */
  #squares = 0;
  #products = 0;

  note(size: number, durationMs: number): void {
    // Welford (1962), with weights.
    this.#weight = WEIGHT_OF_EARLIER * this.#weight + 1;
    const distance = size - this.#meanSize;
    this.#meanSize += distance / this.#weight;
    this.#meanMs += (durationMs - this.#meanMs) / this.#weight;
    this.#squares = WEIGHT_OF_EARLIER * this.#squares + distance * (size - this.#meanSize);
    this.#products = WEIGHT_OF_EARLIER * this.#products + distance * (durationMs - this.#meanMs);
  }

  /** Null before the first job. Larger jobs take no less time. */
  expectedMs(size: number): number | null {
    if (this.#weight === 0) return null;
    const slope = this.#squares > 0 ? Math.max(0, this.#products / this.#squares) : 0;
    return Math.max(0, this.#meanMs + slope * (size - this.#meanSize));
  }
}
