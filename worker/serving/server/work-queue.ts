/**
 * Requests that wait for the scorer, first come, first served. One is worked on in each turn of the
 * event loop, so that connections and checks of health are answered in between. A request that has
 * waited past its deadline is refused: whoever asked has given up.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { RefusedRequest } from './refused-request.js';

interface QueuedWork {
  readonly arrivalMs: number;
  readonly deadlineMs: number;
  /** Must not throw. */
  readonly carryOut: () => void;
  readonly refuse: (refused: RefusedRequest) => void;
}

export class WorkQueue {
  readonly #clock: Clock;
  readonly #countMax: number;
  readonly #waiting: QueuedWork[] = [];
  #isScheduled = false;

  constructor(clock: Clock, countMax: number) {
    this.#clock = clock;
    this.#countMax = countMax;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** @throws RefusedRequest if the queue is full. */
  add(work: QueuedWork): void {
    if (this.#waiting.length >= this.#countMax)
      throw new RefusedRequest({
        reason: 'queue-full',
        what: 'too many requests wait for the scorer',
        expected: `fewer than ${this.#countMax}`,
        cure: 'ask again later, or start more servers',
      });
    this.#waiting.push(work);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#waiting.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const next = this.#waiting.shift();
      if (next !== undefined) this.#workOn(next);
      this.#schedule();
    });
  }

  #workOn({ arrivalMs, deadlineMs, carryOut, refuse }: QueuedWork): void {
    const waitedMs = this.#clock.monotonicMs() - arrivalMs;
    if (waitedMs <= deadlineMs) {
      carryOut();
      return;
    }
    refuse(
      new RefusedRequest({
        reason: 'deadline',
        what: 'the request waited past its deadline',
        expected: `at most ${deadlineMs} ms`,
        found: `${Math.round(waitedMs)} ms`,
        cure: 'ask again later, or start more servers',
      }),
    );
  }
}
