/**
 * Retries while the queue's server is away, until a deadline, and while it refuses because it is full,
 * for a bounded time. Each outage and each refusal is reported once, at once. Every other error is
 * rethrown.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { Outage, withRetry } from '../../shared/network/retry.js';
import { StoreUnavailableError } from '../../shared/storage/object-store.js';
import {
  type RunEventSink,
  objectStoreAway,
  objectStoreBack,
} from '../../shared/events/run-events.js';
import { QueueRefusedError, QueueUnavailableError } from '../../shared/queue/queue-errors.js';

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
    attempt: (action, deadlineMs, signal) =>
      withRetry(
        // Async, so that the interruption is a rejection.
        async () => {
          if (signal?.aborted === true) throw interruptedBy(signal);
          return action();
        },
        {
          assertRetriable: (error, { pauseMs }) =>
            troubles.noteOrThrow(error, { deadlineMs, pauseMs }),
          // Reads succeed while writes fail, so only a call that failed before says that all is well.
          onRecovered: () => troubles.end(),
          pause: (pauseMs) => pause(pauseMs, signal),
        },
      ),
    attemptQuietly: (action, deadlineMs) =>
      withRetry(action, {
        assertRetriable: (error, { pauseMs }) => {
          const isOver = clock.monotonicMs() + pauseMs >= deadlineMs;
          if (!(error instanceof QueueUnavailableError) || isOver) throw error;
        },
        pause: (pauseMs) => clock.sleep(pauseMs),
      }),
  };
}

/** The outage and the refusal that last at present. All attempts share them. */
class Troubles {
  readonly #options: QueuePatienceOptions;
  readonly #troubles: Readonly<Record<'redis' | 'store' | 'refusal', Outage>>;
  lastAwayMs = Number.NEGATIVE_INFINITY;

  constructor(options: QueuePatienceOptions) {
    this.#options = options;
    const { clock } = options;
    const [redis, store, refusal] = [new Outage(clock), new Outage(clock), new Outage(clock)];
    this.#troubles = { redis, store, refusal };
  }

  /** Returns when the call may be repeated after the pause. */
  noteOrThrow(
    error: unknown,
    next: { readonly deadlineMs: number; readonly pauseMs: number },
  ): void {
    const { where, clock, sink, refusalWaitMs: waitMs } = this.#options;
    const nextMs = clock.monotonicMs() + next.pauseMs;
    if (error instanceof QueueUnavailableError) {
      this.lastAwayMs = clock.monotonicMs();
      this.#noteOutage(error);
      if (nextMs < next.deadlineMs) return;
      this.#giveUp();
      throw stayedAway(where, error);
    }
    if (!(error instanceof QueueRefusedError)) throw error;
    if (!error.mayPass) throw refused(where, error);
    const { refusal, reason, cure } = error;
    const sinceMs = this.#troubles.refusal.begin(() =>
      sink({ kind: 'redis-refuses', address: where, refusal, reason, cure, waitMs }),
    );
    if (nextMs < Math.min(next.deadlineMs, sinceMs + waitMs)) return;
    this.#giveUp();
    throw refused(where, error);
  }

  #noteOutage({ cause, reason }: QueueUnavailableError): void {
    const { where, sink } = this.#options;
    // Large blobs are in an object store of their own.
    if (cause instanceof StoreUnavailableError) {
      const { where: address = where } = cause.report;
      this.#troubles.store.begin(() => sink(objectStoreAway({ address, reason })));
    } else this.#troubles.redis.begin(() => sink({ kind: 'redis-away', address: where, reason }));
  }

  end(): void {
    const { sink } = this.#options;
    const { redis, store, refusal } = this.#troubles;
    store.end((awayMs) => sink(objectStoreBack(awayMs)));
    redis.end((awayMs) => sink({ kind: 'redis-back', awayMs }));
    refusal.end((refusedMs) => sink({ kind: 'redis-accepts', refusedMs }));
  }

  #giveUp(): void {
    for (const trouble of Object.values(this.#troubles)) trouble.giveUp();
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

function interrupted(): QianmoError {
  return errorOf('interrupted', 'stopped on request while jobs were open', {
    cure: 'continue with --resume',
  });
}

function stayedAway(where: string, { reason, cause }: QueueUnavailableError): QianmoError {
  const isStore = cause instanceof StoreUnavailableError;
  const server = isStore ? 'the object store of large blobs' : 'Redis';
  return errorOf('transient', `${server} stayed away for longer than one outer step may take`, {
    where: isStore ? (cause.report.where ?? where) : where,
    found: reason,
    cure: `start ${isStore ? 'it' : 'Redis'} and continue with --resume, or raise queue.outerStepTimeoutMs`,
    ...(cause === undefined ? {} : { cause }),
  });
}

function refused(where: string, error: QueueRefusedError): QianmoError {
  return errorOf('environment', error.report.what, {
    where,
    found: error.reason,
    cure: `${error.cure}; then continue with --resume`,
    ...(error.cause === undefined ? {} : { cause: error.cause }),
  });
}
