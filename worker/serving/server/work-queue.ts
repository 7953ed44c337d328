/**
 * Requests that wait for the scorer: those of a higher priority first, and first come, first served among equals. One is
 * worked on in each turn of the event loop, so that connections and checks of health are answered in between. Whoever has
 * waited past the deadline has given up and is refused, and so is at once whoever would have to wait so long.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { RefusedRequest } from './refused-request.js';

/** The first is worked on first; the last is refused first. */
export const PRIORITIES = ['high', 'normal', 'low'] as const;
export type Priority = (typeof PRIORITIES)[number];

interface QueuedWork {
  readonly priority: Priority;
  readonly arrivalMs: number;
  readonly deadlineMs: number;
  /** Must not throw. */
  readonly carryOut: () => void;
  readonly refuse: (refused: RefusedRequest) => void;
}

/** Of the last request in the mean of the time that requests take. */
const MEAN_WEIGHT = 0.1;

export class WorkQueue {
  readonly #clock: Clock;
  readonly #countMax: number;
  readonly #waiting: Readonly<Record<Priority, QueuedWork[]>> = { high: [], normal: [], low: [] };
  #isScheduled = false;
  /** Of the thread, for one request; 0 until one was worked on. */
  #meanWorkMs = 0;

  constructor(clock: Clock, countMax: number) {
    this.#clock = clock;
    this.#countMax = countMax;
  }

  get length(): number {
    return PRIORITIES.reduce((sum, priority) => sum + this.#waiting[priority].length, 0);
  }

  /**
   * Where the queue is full, the last one of the lowest priority gives way to one of a higher.
   *
   * @throws RefusedRequest if there is no such one, or the deadline cannot be kept.
   */
  add(work: QueuedWork): void {
    const waitMs = this.#meanWorkMs * this.#countBefore(work.priority);
    const waitedMs = this.#clock.monotonicMs() - work.arrivalMs;
    if (waitedMs + waitMs > work.deadlineMs)
      throw pastDeadline(work, `about ${Math.round(waitedMs + waitMs)} ms`);
    if (this.length >= this.#countMax) {
      const displaced = this.#lastBelow(work.priority);
      if (displaced === undefined) throw this.#refusal('queue-full');
      displaced.refuse(this.#refusal('displaced'));
    }
    this.#waiting[work.priority].push(work);
    this.#schedule();
  }

  /** Requests that are worked on before one of this priority that comes now. */
  #countBefore(priority: Priority): number {
    const place = PRIORITIES.indexOf(priority);
    return PRIORITIES.slice(0, place + 1).reduce(
      (sum, each) => sum + this.#waiting[each].length,
      0,
    );
  }

  #lastBelow(priority: Priority): QueuedWork | undefined {
    const below = PRIORITIES.slice(PRIORITIES.indexOf(priority) + 1);
    const lowest = [...below].reverse().find((each) => this.#waiting[each].length > 0);
    return lowest === undefined ? undefined : this.#waiting[lowest].pop();
  }

  #schedule(): void {
    if (this.#isScheduled || this.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const first = PRIORITIES.find((each) => this.#waiting[each].length > 0);
      const next = first === undefined ? undefined : this.#waiting[first].shift();
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

  #refusal(reason: 'queue-full' | 'displaced'): RefusedRequest {
    return new RefusedRequest({
      reason,
      what:
        reason === 'queue-full'
          ? 'too many requests wait for the scorer'
          : 'too many requests wait for the scorer, and one of a higher priority took the place',
      expected: `fewer than ${this.#countMax}`,
      cure: 'ask again later, or start more servers',
    });
  }
}

function pastDeadline({ deadlineMs }: QueuedWork, found: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'deadline',
    what: 'the request would wait, or has waited, past its deadline',
    expected: `at most ${deadlineMs} ms`,
    found,
    cure: 'ask again later, or start more servers',
  });
}
