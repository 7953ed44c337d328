/** Repeats calls to a service that may be away, and keeps track of how long it is. */

import type { Clock } from '../base/clock.js';

const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 1_000;

interface RetryPolicy {
  /** Throws if the call must not be repeated after the pause. The first attempt is number 1. */
  readonly assertRetriable: (
    error: unknown,
    failed: { readonly attempt: number; readonly pauseMs: number },
  ) => void;
  /** Called when a call that failed before succeeds. */
  readonly onRecovered?: () => void;
  readonly pause: (pauseMs: number) => Promise<void>;
}

/** Repeats a call, with growing pauses, until it succeeds or the policy throws. */
export async function withRetry<T>(
  action: () => Promise<T>,
  { assertRetriable, onRecovered, pause }: RetryPolicy,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const pauseMs = Math.min(PAUSE_MS_MIN * 2 ** (attempt - 1), PAUSE_MS_MAX);
    try {
      const value = await action();
      if (attempt > 1) onRecovered?.();
      return value;
    } catch (error) {
      assertRetriable(error, { attempt, pauseMs });
    }
    await pause(pauseMs);
  }
}

/** An outage of a service. All calls to the service share it, so it is reported once. */
export class Outage {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #startMs: number | null = null;
  #isGivenUp = false;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Returns when the outage began, on the clock's monotonic scale. Reports it if it begins now. */
  begin(report: () => void): number {
    if (this.#startMs === null) {
      this.#startMs = this.#clock.monotonicMs();
      report();
    }
    return this.#startMs;
  }

  /** Reports the end, unless there is no outage, or its end no longer matters. */
  end(report: (durationMs: number) => void): void {
    if (this.#startMs !== null && !this.#isGivenUp)
      report(this.#clock.monotonicMs() - this.#startMs);
    this.#startMs = null;
  }

  /** A run that has failed must not report that the service is back. */
  giveUp(): void {
    this.#isGivenUp = true;
  }
}
