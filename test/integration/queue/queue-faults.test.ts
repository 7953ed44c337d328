/** Faults of the real queue: each step must end with exactly one admitted result for every job. */

import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import { ordersForTest, resultsOf } from '../../conformance/dispatcher.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import { PROTOCOL_VERSION } from '../../../shared/queue/protocol.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

const room = new QueueRoom('faults');

/** Resolves when `count` jobs wait on the queue. */
async function waiting(count: number): Promise<string[]> {
  for (;;) {
    const ids = await room.redis.client.lrange(`${room.prefix}:inner-loops:wait`, 0, -1);
    if (ids.length >= count) return ids;
    await systemClock.sleep(10);
  }
}

describe('a step on a failing Redis', () => {
  it('lets a worker report every outage', async () => {
    const one = await room.steeredWorker('one');
    const troubles = (): number => one.events.filter(({ kind }) => kind === 'redis-trouble').length;
    for (let outage = 1; outage <= 2; outage += 1) {
      const before = troubles();
      await room.redis.server.stop();
      while (troubles() === before) await systemClock.sleep(10);
      await room.redis.server.restart();
      const { dispatcher: sut } = await room.dispatcher({}, { runId: `run-${outage}` });
      expect(await resultsOf(sut, 1)).toHaveLength(1);
    }
  });

  it('is given up, resumable, when no worker serves it', async () => {
    const { dispatcher: sut } = await room.dispatcher({ outerStepTimeoutMs: 50 });
    await expectFailureOf(resultsOf(sut, 2), 'transient', {
      found: '2 jobs still open',
      cure: /--resume/,
    });
    expect(await room.redis.client.llen(`${room.prefix}:inner-loops:wait`)).toBe(0);
  });
});

it('a queue on a Redis that refuses or is unreachable reports that Redis has no memory left for jobs, resumable', async () => {
  const blobs = new MemoryBlobStore();
  const made = await room.dispatcher({ refusalWaitMs: 100 }, { blobs });
  room.cleanups.push(() => room.redis.client.config('SET', 'maxmemory', '0'));
  await room.redis.client.config('SET', 'maxmemory', '1');
  await expectFailureOf(resultsOf(made.dispatcher, 1), 'environment', {
    what: 'Redis has no memory left',
    found: /OOM/,
    cure: /maxmemory.*--resume/,
  });
});

it('several runs on one queue keep their jobs, except those that an earlier start of the run left waiting', async () => {
  const orders = ordersForTest(3);
  const runId = orders[0]?.job.runId ?? '';
  const connection = new Redis(room.redis.url, { maxRetriesPerRequest: null });
  const queue = new Queue('inner-loops', { connection, prefix: room.prefix });
  for (const [index, owner] of [runId, runId, 'other-run'].entries())
    await queue.add('gradient', { runId: owner }, { jobId: `dead-${index}` });
  await queue.close();
  connection.disconnect();
  const { dispatcher: sut, events } = await room.dispatcher({}, { runId });
  expect(events).toContainEqual({
    ...{ kind: 'notice', code: 'leftover-jobs-removed' },
    text: 'removed 2 waiting jobs of an earlier start',
  });
  expect(await waiting(1)).toEqual(['dead-2']);
  await room.steeredWorker('one');
  expect(await resultsOf(sut, orders)).toHaveLength(3);
});

describe('refusals of the queue', () => {
  it('say that a job names too many tasks', async () => {
    const { dispatcher: sut } = await room.dispatcher();
    const orders = ordersForTest(1).map((order) => ({
      ...order,
      job: { ...order.job, taskIndices: numbers(20_000) },
    }));
    await expectFailureOf(resultsOf(sut, orders), 'usage', {
      what: 'a job of 20000 tasks is too large for the queue',
      cure: 'lower training.microBatchRowsMax, or shorten the sections model and method',
    });
  });

  it('fail a malformed job permanently, and the next job is served', async () => {
    const one = await room.steeredWorker('one');
    const connection = new Redis(room.redis.url, { maxRetriesPerRequest: null });
    const queue = new Queue('inner-loops', { connection, prefix: room.prefix });
    await queue.add(
      'gradient',
      { protocolVersion: PROTOCOL_VERSION, runId: 7 },
      { jobId: 'bad', attempts: 5 },
    );
    const { dispatcher: sut } = await room.dispatcher();
    expect(await resultsOf(sut, 2)).toHaveLength(2);
    const bad = await queue.getJob('bad');
    await queue.close();
    connection.disconnect();
    expect(bad?.failedReason).toMatch(/^permanent: the job is malformed at runId/);
    expect(bad?.attemptsMade).toBe(1);
    expect(one.events.filter(({ kind }) => kind === 'job-failed')).toHaveLength(1);
  });
});
