/**
 * Retries while the queue's server is away, with growing pauses until a deadline, and reports each
 * outage once. Every other error is rethrown.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { QueueUnavailableError } from '../../shared/queue/queue-errors.js';

const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 1_000;

export interface QueuePatience {
  /** When Redis last did not answer, on the clock's monotonic scale; infinitely long ago if never. */
  readonly lastAwayMs: number;
  /**
   * @param deadlineMs on the clock's monotonic scale
   * @throws QianmoError `transient` at the deadline, `interrupted` when the signal aborts.
   */
  attempt<T>(action: () => Promise<T>, deadlineMs: number, signal?: AbortSignal): Promise<T>;
}

export function createQueuePatience(options: {
  readonly where: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}): QueuePatience {
  const { where, clock, sink } = options;
  let awaySinceMs: number | undefined;
  let lastAwayMs = Number.NEGATIVE_INFINITY;

  const noteOutage = ({ reason }: QueueUnavailableError): void => {
    lastAwayMs = clock.monotonicMs();
    if (awaySinceMs !== undefined) return;
    awaySinceMs = clock.monotonicMs();
    sink({ kind: 'redis-away', address: where, reason });
  };
  const noteAnswer = (): void => {
    if (awaySinceMs === undefined) return;
    const awayMs = clock.monotonicMs() - awaySinceMs;
    awaySinceMs = undefined;
    sink({ kind: 'redis-back', awayMs });
  };

  return {
    get lastAwayMs() {
      return lastAwayMs;
    },
    attempt: async (action, deadlineMs, signal) => {
      for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
        if (signal?.aborted === true) throw interrupted();
        try {
          const value = await action();
          noteAnswer();
          return value;
        } catch (error) {
          if (!(error instanceof QueueUnavailableError)) throw error;
          noteOutage(error);
          if (clock.monotonicMs() + pauseMs >= deadlineMs) throw stayedAway(where, error);
        }
        await clock.sleep(pauseMs, signal);
      }
    },
  };
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
