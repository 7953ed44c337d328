/**
 * Retries while the queue's server is away, until a deadline, and while it refuses because it is full,
 * for a bounded time. Each outage and each refusal is reported once, at once. Every other error is
 * rethrown.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { QueueRefusedError, QueueUnavailableError } from '../../shared/queue/queue-errors.js';

const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 1_000;

/** Repeats a call while the server is away, until the step's time is over. */
export type Patiently = <T>(action: () => Promise<T>) => Promise<T>;

export interface QueuePatience {
  /** When Redis last did not answer, on the clock's monotonic scale; infinitely long ago if never. */
  readonly lastAwayMs: number;
  /**
   * @param deadlineMs on the clock's monotonic scale
   * @throws QianmoError `transient` at the deadline, `environment` when the server refuses, or refuses
   *   for too long, `interrupted` or `cancelled` when the signal aborts.
   */
  attempt<T>(action: () => Promise<T>, deadlineMs: number, signal?: AbortSignal): Promise<T>;
  /** Like `attempt`, and reports nothing: for cleaning up after the work has ended. */
  attemptQuietly<T>(action: () => Promise<T>, deadlineMs: number): Promise<T>;
}

interface QueuePatienceOptions {
  readonly where: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** How long a server may refuse because it is full. */
  readonly refusalWaitMs: number;
}

export function createQueuePatience(options: QueuePatienceOptions): QueuePatience {
  const { clock } = options;
  const troubles = new Troubles(options);
  const pause = sharedPauses(clock);
  return {
    get lastAwayMs() {
      return troubles.lastAwayMs;
    },
    attempt: async (action, deadlineMs, signal) => {
      let isTroubled = false;
      for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
        if (signal?.aborted === true) throw interruptedBy(signal);
        try {
          const value = await action();
          // Reads succeed while writes fail, so only a call that failed before says that all is well.
          if (isTroubled) troubles.over();
          return value;
        } catch (error) {
          isTroubled = true;
          troubles.noteOrThrow(error, { deadlineMs, pauseMs });
        }
        await pause(pauseMs, signal);
      }
    },
    attemptQuietly: async (action, deadlineMs) => {
      for (;;) {
        try {
          return await action();
        } catch (error) {
          const isOver = clock.monotonicMs() + PAUSE_MS_MIN >= deadlineMs;
          if (!(error instanceof QueueUnavailableError) || isOver) throw error;
        }
        await clock.sleep(PAUSE_MS_MIN);
      }
    },
  };
}

/** The outage and the refusal that last at present. All attempts share them. */
class Troubles {
  readonly #options: QueuePatienceOptions;
  #awaySinceMs: number | null = null;
  #refusedSinceMs: number | null = null;
  lastAwayMs = Number.NEGATIVE_INFINITY;
  /** A run that has failed must not be told that its queue is well again. */
  #isGivenUp = false;

  constructor(options: QueuePatienceOptions) {
    this.#options = options;
  }

  /** Returns when the call may be repeated after the pause. */
  noteOrThrow(
    error: unknown,
    next: { readonly deadlineMs: number; readonly pauseMs: number },
  ): void {
    const { where, clock, refusalWaitMs } = this.#options;
    const nextMs = clock.monotonicMs() + next.pauseMs;
    if (error instanceof QueueUnavailableError) {
      this.#noteOutage(error);
      if (nextMs < next.deadlineMs) return;
      this.#isGivenUp = true;
      throw stayedAway(where, error);
    }
    if (!(error instanceof QueueRefusedError)) throw error;
    if (!error.mayPass) throw refused(where, error);
    const sinceMs = this.#noteRefusal(error);
    if (nextMs < Math.min(next.deadlineMs, sinceMs + refusalWaitMs)) return;
    this.#isGivenUp = true;
    throw refused(where, error);
  }

  over(): void {
    const { clock, sink } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#awaySinceMs !== null && !this.#isGivenUp)
      sink({ kind: 'redis-back', awayMs: nowMs - this.#awaySinceMs });
    if (this.#refusedSinceMs !== null && !this.#isGivenUp)
      sink({ kind: 'redis-accepts', refusedMs: nowMs - this.#refusedSinceMs });
    this.#awaySinceMs = null;
    this.#refusedSinceMs = null;
  }

  #noteOutage({ reason }: QueueUnavailableError): void {
    const { where, clock, sink } = this.#options;
    this.lastAwayMs = clock.monotonicMs();
    if (this.#awaySinceMs !== null) return;
    this.#awaySinceMs = clock.monotonicMs();
    sink({ kind: 'redis-away', address: where, reason });
  }

  /** Returns when the refusal began. */
  #noteRefusal({ refusal, reason, cure }: QueueRefusedError): number {
    if (this.#refusedSinceMs !== null) return this.#refusedSinceMs;
    const { where, clock, sink, refusalWaitMs: waitMs } = this.#options;
    this.#refusedSinceMs = clock.monotonicMs();
    sink({ kind: 'redis-refuses', address: where, refusal, reason, cure, waitMs });
    return this.#refusedSinceMs;
  }
}

/**
 * Pauses that all waiting calls of one signal share: many puts wait at once, and each would add a
 * listener to the signal.
 */
function sharedPauses(clock: Clock): (pauseMs: number, signal?: AbortSignal) => Promise<void> {
  const pauses = new WeakMap<AbortSignal, Promise<void>>();
  return (pauseMs, signal) => {
    if (signal === undefined) return clock.sleep(pauseMs);
    const underWay = pauses.get(signal);
    if (underWay !== undefined) return underWay;
    const pause = clock.sleep(pauseMs, signal).then(() => void pauses.delete(signal));
    pauses.set(signal, pause);
    return pause;
  };
}

/** The error of work whose signal has aborted. A cancellation stays one, whoever started the call. */
export function interruptedBy({ reason }: AbortSignal): QianmoError {
  return reason instanceof QianmoError && reason.kind === 'cancelled' ? reason : interrupted();
}

export function interrupted(): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'stopped on request while jobs were open',
    cure: 'continue with --resume',
  });
}

function stayedAway(where: string, { reason, cause }: QueueUnavailableError): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: 'Redis stayed away for longer than one outer step may take',
    where,
    found: reason,
    cure: 'start Redis and continue with --resume, or raise queue.outerStepTimeoutMs',
    ...(cause === undefined ? {} : { cause }),
  });
}

function refused(where: string, error: QueueRefusedError): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: error.report.what,
    where,
    found: error.reason,
    cure: `${error.cure}; then continue with --resume`,
    ...(error.cause === undefined ? {} : { cause: error.cause }),
  });
}
