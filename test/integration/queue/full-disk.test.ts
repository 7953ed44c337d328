/** A Redis that refuses to write because its disk is full, below real coordinators and workers. */

import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import { redisOnSmallDisk, type RedisOnSmallDisk } from '../../fixtures/queue/full-disk.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
  workerInTest,
  type DispatcherInTest,
  type WorkerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';
import { remoteControl, steeredExecutor } from '../../fixtures/queue/remote-control.js';
import { systemClock } from '../../../shared/base/clock.js';

const PREFIX = '{full-disk}';
const neverAborted = new AbortController().signal;

let redis: RedisOnSmallDisk;
/** Steers the executors, which the full disk must not stop. */
let steering: RedisForTest;
const cleanups: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  [redis, steering] = await Promise.all([redisOnSmallDisk(), redisForTest()]);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await Promise.all([redis.close(), steering.close()]);
});

async function dispatcher(refusalWaitMs: number): Promise<DispatcherInTest> {
  const limits = queueConfig({ prefix: PREFIX, refusalWaitMs });
  const made = await dispatcherInTest(redisQueue(redis.url, PREFIX), limits);
  cleanups.push(() => made.dispatcher.close());
  return made;
}

async function steeredWorker(): Promise<WorkerInTest> {
  const blocking = new Redis(steering.url, { maxRetriesPerRequest: null });
  const executor = steeredExecutor(blocking, 'one');
  const made = workerInTest(redisQueue(redis.url, PREFIX), executor, { name: 'one' });
  cleanups.push(async () => {
    await redis.freeDisk();
    await made.stop();
    blocking.disconnect();
  });
  await made.ready;
  return made;
}

async function troubled({ events }: WorkerInTest): Promise<void> {
  while (!events.some((event) => event.kind === 'redis-trouble')) await systemClock.sleep(10);
}

describe('a run whose Redis has a full disk', () => {
  it('says so while its jobs are computed, and stops resumable after the configured wait', async () => {
    const control = remoteControl(steering.client);
    await steeredWorker();
    const { dispatcher: sut, events } = await dispatcher(300);
    await control.hang(0);
    const results = collected(sut.run(ordersForTest(1), admitAll, neverAborted));
    const failure = expect(results).rejects.toMatchObject({
      kind: 'environment',
      report: {
        what: 'Redis refuses to write, because writing to its disk fails',
        found: expect.stringContaining('MISCONF') as string,
        cure: expect.stringMatching(/free the disk.*--resume/) as string,
      },
    });
    await control.started();
    await redis.fillDisk();
    await failure;
    expect(events.filter(({ kind }) => kind.startsWith('redis-'))).toEqual([
      {
        kind: 'redis-refuses',
        address: redis.url,
        refusal: 'disk',
        reason: expect.stringContaining('MISCONF') as string,
        cure: expect.stringContaining('free the disk') as string,
        waitMs: 300,
      },
    ]);
    await control.release();
  });

  it('says so when the inputs of a step cannot be put', async () => {
    const { dispatcher: sut } = await dispatcher(100);
    await redis.fillDisk();
    await expect(
      collected(sut.run(ordersForTest(2), admitAll, neverAborted)),
    ).rejects.toMatchObject({
      kind: 'environment',
      report: { found: expect.stringContaining('MISCONF') as string },
    });
  });

  it('goes on when the disk is freed; its worker has kept the finished result', async () => {
    const control = remoteControl(steering.client);
    const worker = await steeredWorker();
    const made = await dispatcher(600_000);
    const { dispatcher: sut, events } = made;
    await control.hang(0);
    const results = collected(sut.run(ordersForTest(1), admitAll, neverAborted));
    await control.started();
    const refuses = made.next('redis-refuses');
    await redis.fillDisk();
    await control.release();
    await Promise.all([troubled(worker), refuses]);
    await redis.freeDisk();
    expect((await results).map(({ result }) => result.jobIndex)).toEqual([0]);
    expect(worker.events.filter(({ kind }) => kind === 'job-started')).toHaveLength(1);
    const ofRedis = events.map(({ kind }) => kind).filter((kind) => kind.startsWith('redis-'));
    expect(ofRedis).toEqual(['redis-refuses', 'redis-accepts']);
  });
});
