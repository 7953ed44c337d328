/** A failover of Redis under real coordinators and workers: a replica becomes the primary. */

import { expect, it } from 'vitest';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { replicatedRedis } from '../../fixtures/queue/replicated-redis.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { systemClock } from '../../../shared/base/clock.js';

const PREFIX = '{failover}';

const executor: JobExecutor = {
  execute: async (input) => {
    await systemClock.sleep(2);
    return raisedOutput(input, 'test');
  },
  close: () => Promise.resolve(),
};

it('does not end a run: every job has one result, without an attempt more', async () => {
  const redis = await replicatedRedis(redisForTest);
  const queue = redisQueue(redis.url, PREFIX);
  const workers = ['one', 'two'].map((name) => workerInTest(queue, executor, { name }));
  const limits = queueConfig({ prefix: PREFIX, jobAttemptsMax: 1 });
  const { dispatcher, events } = await dispatcherInTest(queue, limits);
  const jobIndices: number[] = [];
  try {
    let failedOver = Promise.resolve();
    for await (const { result } of dispatcher.run(
      ordersForTest(400),
      admitAll,
      new AbortController().signal,
    )) {
      jobIndices.push(result.jobIndex);
      if (jobIndices.length === 50 || jobIndices.length === 250)
        failedOver = failedOver.then(() => redis.failOver());
    }
    await failedOver;
    expect(jobIndices.sort((a, b) => a - b)).toEqual(Array.from({ length: 400 }, (_, i) => i));
    const kinds = new Set(events.map(({ kind }) => kind));
    const ofOutage = ['redis-away', 'redis-back', 'job-retried'];
    const inAnyRun = ['workers-wanted', 'fingerprint-taken', 'results-admitted'];
    const expected = [...inAnyRun, ...ofOutage];
    for (const kind of kinds) expect(expected).toContain(kind);
    // The next step works on the new primary as any other.
    const next = dispatcher.run(ordersForTest(5), admitAll, new AbortController().signal);
    expect(await collected(next)).toHaveLength(5);
  } finally {
    await dispatcher.close();
    await Promise.all(workers.map((worker) => worker.stop().catch(() => undefined)));
    await redis.close();
  }
});
