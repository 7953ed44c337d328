/** The metrics of a queue, read from Redis when somebody scrapes them: its backlog, and the workers that live. */

import type { Queue } from 'bullmq';
import { expositionOf } from '../../shared/metrics/exposition.js';
import { MetricRegistry } from '../../shared/metrics/metric-registry.js';
import type { RedisConnection } from '../../shared/queue/redis-connection.js';
import { redisWorkerRegistry } from '../../shared/queue/redis-registry.js';

const MS_PER_SECOND = 1000;
const DEVICES = ['cpu', 'gpu', 'auto'] as const;

/** @returns the function that reads them; it takes a few commands, whatever the length of the queue. */
export function queueMetrics(
  queue: Queue,
  redis: RedisConnection,
  prefix: string,
): () => Promise<string> {
  const registry = new MetricRegistry('dashboard');
  const workers = redisWorkerRegistry(redis, prefix);
  const countOf = (state: 'wait' | 'active'): Promise<number> => redis.llen(queue.toKey(state));
  return async () => {
    const [waiting, active, ageMs, connected] = await Promise.all([
      countOf('wait'),
      countOf('active'),
      oldestAgeMs(queue, redis),
      workers.reportedWorkers(),
    ]);
    registry.set('qianmo_queue_jobs', { state: 'waiting' }, waiting);
    registry.set('qianmo_queue_jobs', { state: 'active' }, active);
    registry.set('qianmo_oldest_job_age_seconds', {}, ageMs / MS_PER_SECOND);
    for (const device of DEVICES) {
      const ofDevice = connected.filter(
        (each) => (each.report?.device?.kind ?? each.device) === device,
      );
      registry.set('qianmo_workers', { device }, ofDevice.length);
    }
    return expositionOf(registry.snapshot());
  };
}

/** The entry that is taken next has waited longest; 0 if none waits. */
async function oldestAgeMs(queue: Queue, redis: RedisConnection): Promise<number> {
  const [jobId] = await redis.lrange(queue.toKey('wait'), -1, -1);
  if (jobId === undefined) return 0;
  const addedMs = Number(await redis.hget(queue.toKey(jobId), 'timestamp'));
  const [seconds, microseconds] = await redis.time();
  const nowMs = Number(seconds) * MS_PER_SECOND + Number(microseconds) / MS_PER_SECOND;
  // The entry may have been taken meanwhile.
  return addedMs > 0 ? Math.max(0, nowMs - addedMs) : 0;
}
