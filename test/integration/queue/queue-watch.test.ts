/** The state of a queue as the dashboard reads it: whole, and at a cost to Redis that does not grow with the workers. */

import { Queue } from 'bullmq';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { QueueWatch } from '../../../coordinator/dashboard/queue-watch.js';
import { systemClock } from '../../../shared/base/clock.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { QueueController } from '../../../shared/queue/job-queue.js';
import { INNER_LOOP_QUEUE } from '../../../shared/queue/protocol.js';
import { redisWorkerRegistry } from '../../../shared/queue/redis-registry.js';
import { WORKER_SILENCE_MS_MAX } from '../../../shared/queue/timing.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const PREFIX = '{watched}';
const WORKER_COUNT = 1_200;
/** Commands of one reading: ten, and a few more with jobs and runs. */
const COMMANDS_MAX = 24;

const redis = openedOnce(redisForTest);
let controller: QueueController;
let queue: Queue;
let nowMs = 0;
let watch: QueueWatch;

beforeAll(async () => {
  const clock = { ...systemClock, monotonicMs: () => nowMs };
  const { url: redisUrl } = redis;
  controller = await bullmqJobQueue({ redisUrl, prefix: PREFIX, clock }).openController();
  const connection = redis.client.duplicate({ maxRetriesPerRequest: null });
  queue = new Queue(INNER_LOOP_QUEUE, { connection, prefix: PREFIX, skipMetasUpdate: true });
  await queue.waitUntilReady();
  watch = new QueueWatch(queue, controller, clock);
  const registry = redisWorkerRegistry(redis.client, PREFIX);
  const device = 'cpu';
  await registry.enter({ name: 'silent', instance: 'silent', device, report: null });
  // Nine seconds of silence, which the next beats would sweep away.
  const others = Array.from({ length: WORKER_COUNT }, (_, index) => ({
    ...{ name: `w${index}`, instance: `i${index}`, device, sinceMs: 1, jobId: null, report: null },
  }));
  await redis.client.hset(
    `${PREFIX}:workers`,
    ...others.flatMap((worker) => [worker.instance, JSON.stringify(worker)]),
  );
  const beatMs = systemClock.epochMs();
  await redis.client.zadd(
    `${PREFIX}:workers:beats`,
    ...[beatMs - WORKER_SILENCE_MS_MAX - 1_000, 'silent'],
    ...others.flatMap(({ instance }) => [beatMs + 60_000, instance]),
  );
  for (const key of ['workers', 'workers:beats']) await redis.client.persist(`${PREFIX}:${key}`);
});
afterAll(async () => {
  await queue.close();
  await controller.close();
});

async function commandCount(): Promise<number> {
  const text = await redis.client.info('commandstats');
  const ours = text.split('\n').filter((line) => !/^cmdstat_(info|config)/.test(line));
  return ours.reduce((sum, line) => sum + Number(/calls=(\d+)/.exec(line)?.[1] ?? 0), 0);
}

it('has every worker but the silent one, by a few commands however many there are', async () => {
  // Seen to fail: with a script that looks each worker up.
  await watch.state();
  nowMs += 60_000;
  await redis.client.config('RESETSTAT');
  const { workers } = await watch.state();
  expect(workers).toHaveLength(WORKER_COUNT);
  expect(workers.map(({ name }) => name)).not.toContain('silent');
  expect(await commandCount()).toBeLessThanOrEqual(COMMANDS_MAX);
});
