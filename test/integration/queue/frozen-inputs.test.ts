/**
 * The frozen inputs of a run over a real Redis: they are put once and fetched where they are
 * missing.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import {
  admitAll,
  collected,
  executorForTest,
  ordersForTest,
} from '../../conformance/dispatcher.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';

const PREFIX = '{frozen}';
const neverAborted = new AbortController().signal;

let redis: RedisForTest;
beforeAll(async () => {
  redis = await redisForTest();
});
afterAll(() => redis.close());

describe('the frozen inputs of a run', () => {
  it('are put once, fetched by each worker that lacks them, put again when lost, and deleted at the end', async () => {
    const frozen = Uint8Array.of(1, 2, 3, 4);
    const { sha256 } = blobRefOf(frozen);
    const key = `${PREFIX}:blob:${sha256}`;
    const queue = redisQueue(redis.url, PREFIX);
    const limits = queueConfig({ prefix: PREFIX, jobAttemptsMax: 1 });
    const { dispatcher: sut, events } = await dispatcherInTest(queue, limits);
    const step = async (outerStep: number): Promise<(string | undefined)[]> => {
      const orders = ordersForTest(1, outerStep).map((order) => ({ ...order, frozen }));
      const results = await collected(sut.run(orders, admitAll, neverAborted));
      return results.map(({ result }) => result.worker);
    };
    const first = workerInTest(queue, executorForTest(), { name: 'first' });
    await first.ready;
    expect(await step(0)).toEqual(['first']);
    expect(await redis.client.exists(key)).toBe(1);
    // The worker that holds them does not fetch them again.
    await redis.client.unlink(key);
    expect(await step(1)).toEqual(['first']);
    expect(await redis.client.exists(key)).toBe(0);
    await first.stop();
    const second = workerInTest(queue, executorForTest(), { name: 'second' });
    await second.ready;
    expect(await step(2)).toEqual(['second']);
    expect(events.filter(({ kind }) => kind === 'job-retried')).toHaveLength(1);
    expect(await redis.client.exists(key)).toBe(1);
    await second.stop();
    await sut.close();
    expect(await redis.client.exists(key)).toBe(0);
  });
});
