/**
 * Requests that wait for the scorer, first come, first served. One is worked on in each turn of the event loop, so that
 * connections and checks of health are answered in between. A request that has waited, or would have to wait, past its
 * deadline is refused.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { type RefusedRequest, refusalOf } from './refused-request.js';

interface QueuedWork {
  readonly arrivalMs: number;
  readonly deadlineMs: number;
  /** Must not throw. */
  readonly carryOut: () => void;
  readonly refuse: (refused: RefusedRequest) => void;
}

/** Weight of the last request in the mean time of a request. */
const MEAN_WEIGHT = 0.1;

export class WorkQueue {
  readonly #clock: Clock;
  readonly #countMax: number;
  readonly #waiting: QueuedWork[] = [];
  #isScheduled = false;
  /** The time of the thread for one request; 0 until one was worked on. */
  #meanWorkMs = 0;

  constructor(clock: Clock, countMax: number) {
    this.#clock = clock;
    this.#countMax = countMax;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** @throws RefusedRequest if the queue is full, or the deadline cannot be kept. */
  add(work: QueuedWork): void {
    const waitMs = this.#meanWorkMs * this.length;
    const waitedMs = this.#clock.monotonicMs() - work.arrivalMs;
    if (waitedMs + waitMs > work.deadlineMs)
      throw pastDeadline(work, `about ${Math.round(waitedMs + waitMs)} ms`);
    if (this.length >= this.#countMax)
      throw refusalOf('queue-full', 'too many requests wait for the scorer', {
        expected: `fewer than ${this.#countMax}`,
        cure: 'ask again later, or start more servers',
      });
    this.#waiting.push(work);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || this.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const next = this.#waiting.shift();
      if (next !== undefined) this.#workOn(next);
      this.#schedule();
    });
  }

  #workOn(work: QueuedWork): void {
    const startMs = this.#clock.monotonicMs();
    const waitedMs = startMs - work.arrivalMs;
    if (waitedMs > work.deadlineMs) {
      work.refuse(pastDeadline(work, `${Math.round(waitedMs)} ms`));
      return;
    }
    work.carryOut();
    const tookMs = this.#clock.monotonicMs() - startMs;
    this.#meanWorkMs += MEAN_WEIGHT * (tookMs - this.#meanWorkMs);
  }
}

function pastDeadline({ deadlineMs }: QueuedWork, found: string): RefusedRequest {
  return refusalOf('deadline', 'the request would wait, or has waited, past its deadline', {
    expected: `at most ${deadlineMs} ms`,
    found,
    cure: 'ask again later, or start more servers',
  });
}
