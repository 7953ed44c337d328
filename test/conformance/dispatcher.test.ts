import { describe } from 'vitest';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { MemoryJobQueue } from '../../infra/simulation/memory-queue.js';
import { systemClock } from '../../shared/base/clock.js';
import type { JobQueue } from '../../shared/queue/job-queue.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { openedOnce } from '../fixtures/opened.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
} from '../fixtures/queue/queue-under-test.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';
import { describeDispatcher, type DispatcherFactory } from './dispatcher.js';

describe.each([1, 3])('with %i executors', (count) => {
  describeDispatcher('in-memory', (executor, { attemptsMax }) => {
    const dispatcher = createInMemoryDispatcher({
      executors: Array.from({ length: count }, () => executor),
      attemptsMax,
      clock: instantClock(),
      sink: () => undefined,
    });
    return Promise.resolve({ dispatcher, close: () => dispatcher.close() });
  });
});

const redis = openedOnce(redisForTest);
let queueCount = 0;

/** The dispatcher over its own queue, served by one worker. */
function overQueue(queueOf: (prefix: string) => JobQueue): DispatcherFactory {
  return async (executor, { attemptsMax }) => {
    queueCount += 1;
    const prefix = `{conformance-${queueCount}}`;
    const queue = queueOf(prefix);
    const limits = queueConfig({ prefix, jobAttemptsMax: attemptsMax });
    const { dispatcher } = await dispatcherInTest(queue, limits);
    const worker = workerInTest(queue, executor);
    await worker.ready;
    return {
      dispatcher,
      close: async () => {
        await worker.stop();
        await dispatcher.close();
      },
    };
  };
}

describeDispatcher(
  'BullMQ with one worker',
  overQueue((prefix) => redisQueue(redis.url, prefix)),
);
describeDispatcher(
  'a queue in memory with one worker',
  overQueue(() => new MemoryJobQueue({ clock: systemClock })),
);
