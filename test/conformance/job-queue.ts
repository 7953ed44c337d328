/** The contract of every job queue, run on each implementation. */

import { describe, expect, it } from 'vitest';
import { termFields } from '../../coordinator/dispatch/dispatcher.js';
import { EXCLUDED_WORKERS_MAX, JOB_BYTE_COUNT_MAX } from '../../shared/queue/protocol.js';
import { describeLeases } from './job-queue-leases.js';
import { describeOrders } from './job-queue-orders.js';
import { describeStarts, describeWorkers } from './job-queue-lives.js';
import {
  jobOf,
  resultOf,
  Scene,
  taken,
  takenIds,
  type JobQueueUnderTest,
  type Test,
} from './job-queue-scene.js';

const BLOB_LIMITS = { lifetimeMs: 60_000, blobByteCountMax: 1_000 };

export function describeJobQueue(name: string, make: () => JobQueueUnderTest): void {
  const test = (title: string, body: (scene: Scene) => Promise<void>): void => {
    it(title, async () => {
      const underTest = make();
      await underTest.run(async () => {
        const scene = new Scene(underTest, await underTest.queue.openProducer());
        try {
          await body(scene);
        } finally {
          await scene.close();
        }
      });
    });
  };

  describe(`${name} as a job queue`, () => {
    describeCarrying(test);
    describeLocks(test);
    describeRemoving(test);
    describeLeases(test);
    describeOrders(test);
    describeStarts(test);
    describeWorkers(test);
    describeConnections(test);
  });
}

function describeCarrying(test: Test): void {
  test('transfers the content of a job and the result of its worker', async (scene) => {
    const consumer = await scene.consumer();
    const woken: unknown[] = [];
    scene.producer.subscribe((...told) => woken.push(told));
    expect(await scene.producer.read('a')).toEqual({ state: 'gone' });
    await scene.add('a');
    expect(await scene.producer.read('a')).toEqual({ state: 'open', holder: null });
    const job = await taken(consumer);
    expect([job.jobId, job.data]).toEqual(['a', jobOf(0)]);
    expect(await scene.producer.read('a')).toEqual({ state: 'open', holder: consumer.name });
    await job.complete({ ...resultOf(0), computeMs: Number.NaN });
    const returnValue = { ...resultOf(0), computeMs: null };
    expect(await scene.producer.read('a')).toEqual({
      state: 'completed',
      returnValue,
      worker: 'w',
    });
    await scene.until(() => Promise.resolve(woken.length > 0));
    expect(woken).toEqual([['a', { state: 'completed', returnValue, worker: '' }]]);
  });

  test('keeps the reason of a failure and the name of the worker', async (scene) => {
    const consumer = await scene.consumer('worker-7');
    const woken: string[] = [];
    scene.producer.subscribe((jobId) => woken.push(jobId));
    for (const kind of ['transient', 'permanent'] as const) {
      await scene.add(kind);
      await (await taken(consumer)).fail({ kind, reason: 'because' });
      expect(await scene.producer.read(kind)).toEqual({
        ...{ state: 'failed', reason: `${kind}: because`, worker: 'worker-7' },
      });
    }
    await scene.until(() => Promise.resolve(woken.length === 2));
    expect(woken).toEqual(['transient', 'permanent']);
  });

  test('gives each job to one consumer, in order of arrival', async (scene) => {
    const [first, second] = [await scene.consumer('first'), await scene.consumer('second')];
    await scene.add('a', 'b', 'c', 'd');
    expect(await first.waitingCount()).toBe(4);
    expect(await takenIds(first, 2)).toEqual(['a', 'b']);
    expect(await takenIds(second, 2)).toEqual(['c', 'd']);
    expect(await second.waitingCount()).toBe(0);
    expect(await second.take({ wait: false })).toBeNull();
  });

  test('delivers a returned job before waiting ones', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('a', 'b');
    const job = await taken(consumer);
    await job.handBack();
    expect(await scene.producer.read('a')).toEqual({ state: 'open', holder: consumer.name });
    expect(await takenIds(consumer, 2)).toEqual(['a', 'b']);
  });

  test('wakes a waiting consumer', async (scene) => {
    const consumer = await scene.consumer();
    const waiting = taken(consumer);
    await scene.add('late');
    expect((await waiting).jobId).toBe('late');
  });

  test('leaves a job unchanged when its id is added again', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('a');
    await scene.producer.add([{ jobId: 'a', job: jobOf(9) }]);
    const job = await taken(consumer);
    expect(job.data).toEqual(jobOf(0));
    await job.complete(resultOf(0));
    await scene.add('a');
    expect(await scene.producer.read('a')).toMatchObject({ state: 'completed' });
    expect(await consumer.take({ wait: false })).toBeNull();
  });

  test('takes the largest job again under any terms of its delivery', async (scene) => {
    const emptyByteCount = Buffer.byteLength(JSON.stringify(jobOf(0, { runId: '' })));
    const job = jobOf(0, { runId: 'x'.repeat(JOB_BYTE_COUNT_MAX - emptyByteCount) });
    expect(Buffer.byteLength(JSON.stringify(job))).toBe(JOB_BYTE_COUNT_MAX);
    const notBy = Array.from({ length: EXCLUDED_WORKERS_MAX }, (_, place) =>
      `${place}`.padEnd(512, 'w'),
    );
    const again = { ...job, ...termFields({ fingerprint: 'cpu-avx512-onednn-3f9a1c22', notBy }) };
    expect(again.notBy).toEqual(notBy);
    await scene.producer.add([{ jobId: 'a', job: again }]);
    expect((await taken(await scene.consumer())).data).toEqual(again);
  });

  test('adds no job of a call in which one is too large', async (scene) => {
    const taskIndices = Array.from({ length: JOB_BYTE_COUNT_MAX / 2 }, (_, index) => index);
    const jobs = [jobOf(0), jobOf(1, { taskIndices })];
    const added = scene.producer.add(jobs.map((job) => ({ jobId: `job-${job.jobIndex}`, job })));
    await expect(added).rejects.toThrow(/exceeds the limit/);
    expect(await scene.producer.read('job-0')).toEqual({ state: 'gone' });
  });
}

function describeLocks(test: Test): void {
  test('extends valid locks and names lost ones', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('kept', 'done', 'lost');
    const kept = await taken(consumer);
    const done = await taken(consumer);
    await done.complete(resultOf(1));
    expect(await consumer.extendLocks([kept])).toEqual([]);
    const lost = await taken(consumer);
    await scene.endLock('lost');
    expect(await consumer.extendLocks([lost, done])).toEqual([lost, done]);
    await expect(lost.complete(resultOf(2))).rejects.toThrow(/lock/);
    await expect(lost.fail({ kind: 'transient', reason: 'late' })).rejects.toThrow(/lock/);
    await expect(lost.handBack()).rejects.toThrow(/lock/);
    expect(await scene.producer.read('lost')).toEqual({ state: 'open', holder: consumer.name });
  });

  test('ends a hold only once', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('a');
    const job = await taken(consumer);
    await job.complete(resultOf(0));
    await expect(job.fail({ kind: 'transient', reason: 'late' })).rejects.toThrow(/lock/);
    expect(await scene.producer.read('a')).toMatchObject({ state: 'completed' });
  });

  test('fails a delivery that has lost its worker when it is next taken, each time', async (scene) => {
    const dead = await scene.consumer('dead');
    const other = await scene.consumer('other');
    const woken: string[] = [];
    scene.producer.subscribe((jobId) => woken.push(jobId));
    for (const jobId of ['first', 'second']) {
      await scene.add(jobId);
      const lost = await taken(dead);
      await scene.endLock(jobId);
      await scene.until(async () => (await other.waitingCount()) === 1);
      expect(await other.take({ wait: false })).toBeNull();
      expect(await scene.producer.read(jobId)).toEqual({
        ...{ state: 'failed', worker: 'other' },
        reason: 'worker-lost: the worker that held the job is lost',
      });
      expect(await dead.extendLocks([lost])).toEqual([lost]);
      await expect(lost.complete(resultOf(0))).rejects.toThrow(/lock/i);
    }
    await scene.until(() => Promise.resolve(woken.length === 2));
    expect(woken).toEqual(['first', 'second']);
  });
}

function describeRemoving(test: Test): void {
  test('removes waiting jobs and leaves held ones', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('held', 'waiting');
    const held = await taken(consumer);
    await scene.producer.remove(['held', 'waiting', 'never-added']);
    expect(await scene.producer.read('waiting')).toEqual({ state: 'gone' });
    expect(await scene.producer.read('held')).toMatchObject({ state: 'open' });
    expect(await consumer.take({ wait: false })).toBeNull();
    await held.complete(resultOf(0));
    expect(await scene.producer.read('held')).toMatchObject({ state: 'completed' });
  });

  test('removes the waiting jobs of one run, and counts them', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('held', 'a', 'b');
    await scene.producer.add([{ jobId: 'other', job: jobOf(0, { runId: 'other' }) }]);
    await taken(consumer);
    expect(await scene.producer.removeLeftovers('run', 2)).toBe(2);
    expect(await scene.producer.removeLeftovers('run', 2)).toBe(0);
    expect(await scene.producer.read('held')).toMatchObject({ state: 'open' });
    expect(await takenIds(consumer, 1)).toEqual(['other']);
  });
}

function describeConnections(test: Test): void {
  test('keeps the job of a consumer that closes until its lock expires', async (scene) => {
    const [closing, other] = [await scene.consumer('closing'), await scene.consumer('other')];
    await scene.add('a');
    await taken(closing);
    await closing.close();
    expect(await other.take({ wait: false })).toBeNull();
    await scene.endLock('a');
    await scene.until(async () => (await other.waitingCount()) === 1);
    expect(await other.take({ wait: false })).toBeNull();
    expect(await scene.producer.read('a')).toMatchObject({ state: 'failed' });
  });

  test('keeps a worker in quarantine for as long as it was told last', async (scene) => {
    const [sick, other] = [await scene.consumer('sick'), await scene.consumer('other')];
    expect(await sick.quarantinedMs()).toBe(0);
    await scene.producer.quarantine('sick', 60_000);
    await scene.producer.quarantine('sick', 300);
    expect(await sick.quarantinedMs()).toBeGreaterThan(0);
    expect(await sick.quarantinedMs()).toBeLessThanOrEqual(300);
    expect(await other.quarantinedMs()).toBe(0);
    await scene.until(async () => (await sick.quarantinedMs()) === 0);
  });

  test('ends a wait on request, and takes nothing afterwards', async (scene) => {
    const consumer = await scene.consumer();
    const waiting = consumer.take({ wait: true });
    await consumer.stopWaiting();
    expect(await waiting).toBeNull();
    await scene.add('a');
    expect(await consumer.take({ wait: true })).toBeNull();
    expect(await scene.producer.read('a')).toEqual({ state: 'open', holder: null });
  });

  test('wakes listeners until they stop', async (scene) => {
    const consumer = await scene.consumer();
    const [first, second]: string[][] = [[], []];
    const unsubscribe = scene.producer.subscribe((jobId) => first!.push(jobId));
    scene.producer.subscribe((jobId) => second!.push(jobId));
    for (const jobId of ['a', 'b']) {
      await scene.add(jobId);
      await (await taken(consumer)).complete(resultOf(0));
      await scene.until(() => Promise.resolve(second!.includes(jobId)));
      unsubscribe();
    }
    expect([first, second]).toEqual([['a'], ['a', 'b']]);
  });

  test('stores blobs for both ends', async (scene) => {
    const consumer = await scene.consumer();
    const bytes = Uint8Array.of(1, 2, 3);
    const put = await scene.producer.blobs(BLOB_LIMITS).put(bytes);
    expect([...(await consumer.blobs(BLOB_LIMITS).get(put))]).toEqual([1, 2, 3]);
  });
}
