/**
 * Retries while Redis is away, with growing pauses until a deadline, and reports each outage once.
 * Only outages are retried. A refusal is reported, and every other error is rethrown.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { isRedisOutage } from '../../shared/queue/redis-connection.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

const PAUSE_MS_MIN = 50;
const PAUSE_MS_MAX = 1_000;

export interface RedisPatience {
  /**
   * @param deadlineMs on the clock's monotonic scale
   * @throws QianmoError `transient` at the deadline, `interrupted` when the signal aborts,
   *   `environment` when Redis answers with a refusal.
   */
  attempt<T>(action: () => Promise<T>, deadlineMs: number, signal?: AbortSignal): Promise<T>;
}

export function createRedisPatience(options: {
  readonly where: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}): RedisPatience {
  const { where, clock, sink } = options;
  let awaySinceMs: number | undefined;

  const noteOutage = (error: unknown): void => {
    if (awaySinceMs !== undefined) return;
    awaySinceMs = clock.monotonicMs();
    sink({ kind: 'redis-away', address: where, reason: rootMessage(error) });
  };
  const noteAnswer = (): void => {
    if (awaySinceMs === undefined) return;
    const awayMs = clock.monotonicMs() - awaySinceMs;
    awaySinceMs = undefined;
    sink({ kind: 'redis-back', awayMs });
  };

  return {
    attempt: async (action, deadlineMs, signal) => {
      for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
        if (signal?.aborted === true) throw interrupted();
        try {
          const value = await action();
          noteAnswer();
          return value;
        } catch (error) {
          if (!isRedisOutage(error)) throw isRefusal(error) ? refused(where, error) : error;
          noteOutage(error);
          if (clock.monotonicMs() + pauseMs >= deadlineMs) throw stayedAway(where, error);
        }
        await clock.sleep(pauseMs, signal);
      }
    },
  };
}

function rootMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : rootMessage(error.cause);
}

export function interrupted(): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'stopped on request while jobs were open',
    cure: 'continue with --resume',
  });
}

function stayedAway(where: string, cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: 'Redis stayed away for longer than one outer step may take',
    where,
    found: rootMessage(cause),
    cure: 'start Redis and continue with --resume, or raise queue.outerStepTimeoutMs',
    cause,
  });
}

/** Whether Redis itself answered with the error: no memory, no disk, or no permission. */
function isRefusal(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}

function refused(where: string, cause: Error): QianmoError {
  const memory = 'raise its maxmemory, or lower training.tasksPerOuterStep';
  const disk = 'free the disk that Redis writes to';
  const other = 'see its log, and what its user may do';
  const isOf = (code: string): boolean => cause.message.startsWith(code);
  return new QianmoError({
    kind: 'environment',
    what: 'Redis refused a command',
    where,
    found: cause.message,
    cure: `${isOf('OOM') ? memory : isOf('MISCONF') ? disk : other}; then continue with --resume`,
    cause,
  });
}
