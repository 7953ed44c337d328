import { afterAll, beforeAll } from 'vitest';
import { dispatcherInTest, queueConfig, workerInTest } from '../fixtures/queue/queue-under-test.js';
import { redisForTest, type RedisForTest } from '../fixtures/queue/redis-for-test.js';
import { describeDispatcher } from './dispatcher.js';

let redis: RedisForTest;
let queueCount = 0;
beforeAll(async () => {
  redis = await redisForTest();
});
afterAll(() => redis.close());

describeDispatcher('BullMQ with one worker', async (executor, { attemptsMax }) => {
  queueCount += 1;
  const prefix = `{conformance-${queueCount}}`;
  const queue = queueConfig({ prefix, jobAttemptsMax: attemptsMax });
  const { dispatcher } = await dispatcherInTest(redis.url, queue);
  const worker = workerInTest(redis.url, prefix, executor);
  await worker.ready;
  return {
    dispatcher,
    close: async () => {
      await worker.stop();
      await dispatcher.close();
    },
  };
});
