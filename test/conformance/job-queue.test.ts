import { systemClock } from '../../shared/base/clock.js';
import { type ConsumerCommands, MemoryJobQueue } from '../../infra/simulation/memory-queue.js';
import type { JobQueue } from '../../shared/queue/job-queue.js';
import { LOCK_DURATION_MS } from '../../shared/queue/timing.js';
import { signedJobQueue, signingKeyOf } from '../../shared/queue/signed-job-queue.js';
import { openedOnce } from '../fixtures/opened.js';
import { redisQueue } from '../fixtures/queue/queue-under-test.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';
import { simulatedClock } from '../fixtures/clocks/simulated-clock.js';
import { describeJobQueue } from './job-queue.js';
import type { JobQueueUnderTest } from './job-queue-scene.js';

const redis = openedOnce(redisForTest);
let queueCount = 0;

describeJobQueue('BullMQ', () => {
  queueCount += 1;
  const prefix = `{queue-${queueCount}}`;
  return {
    queue: redisQueue(redis.url, prefix),
    clock: systemClock,
    run: (test) => test(),
    endLock: async (jobId) => {
      await redis.client.del(`${prefix}:inner-loops:${jobId}:lock`);
    },
    passInSilence: async (durationMs) => {
      for (const kind of ['workers', 'starts']) {
        const beats = `${prefix}:${kind}:beats`;
        for (const id of await redis.client.zrange(beats, '0', '-1'))
          await redis.client.zincrby(beats, -durationMs, id);
      }
      for (const key of await redis.client.keys(`${prefix}:lease:*:holder`)) {
        const leftMs = (await redis.client.pttl(key)) - durationMs;
        if (leftMs > 0) await redis.client.pexpire(key, leftMs);
        else await redis.client.del(key);
      }
    },
  };
});

const key = await signingKeyOf({ QIANMO_SIGNING_KEY: '0'.repeat(32) });
/** The queue in memory, whose locks can end although their holders live. */
class QueueWithLocksThatEnd extends MemoryJobQueue {
  readonly ended = new Set<string>();

  override enter(options: Parameters<MemoryJobQueue['enter']>[0]): ConsumerCommands {
    const inner = super.enter(options);
    return {
      ...inner,
      extend: (lock) => (this.ended.has(lock.jobId) ? Promise.resolve(false) : inner.extend(lock)),
    };
  }
}

const inMemory = (queueOf: (queue: JobQueue) => JobQueue): JobQueueUnderTest => {
  const clock = simulatedClock();
  const queue = new QueueWithLocksThatEnd({ clock });
  return {
    queue: queueOf(queue),
    clock,
    run: (test) => clock.run(test),
    endLock: (jobId) => {
      queue.ended.add(jobId);
      return clock.sleep(LOCK_DURATION_MS);
    },
    passInSilence: (durationMs) => clock.sleep(durationMs),
  };
};

describeJobQueue('the queue in memory', () => inMemory((queue) => queue));

describeJobQueue('a signed queue', () => inMemory((queue) => signedJobQueue(queue, key)));
