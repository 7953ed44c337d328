/**
 * The time of the queue's server, so that records of several machines carry one clock. The offset to
 * this machine's monotonic clock is measured again whenever a connection is back, because another
 * server may have taken over.
 */

import type { Clock } from '../base/clock.js';
import type { RedisConnection } from './redis-connection.js';

export interface ServerTime {
  /** Milliseconds since the Unix epoch, by the server's clock. */
  nowMs(): number;
}

/** Keeps the last offset when a later measurement fails. */
export async function serverTimeOf(redis: RedisConnection, clock: Clock): Promise<ServerTime> {
  let offsetMs = await measuredOffsetMs(redis, clock);
  redis.on('ready', () => {
    measuredOffsetMs(redis, clock).then(
      (measuredMs) => {
        offsetMs = measuredMs;
      },
      () => undefined,
    );
  });
  return { nowMs: () => Math.round(clock.monotonicMs() + offsetMs) };
}

async function measuredOffsetMs(redis: RedisConnection, clock: Clock): Promise<number> {
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1000 + Number(microseconds) / 1000 - clock.monotonicMs();
}
