/** The contract of every job queue, run on each implementation. */

import { describe, expect, it } from 'vitest';
import type { WorkerReport } from '../../shared/queue/job-queue.js';
import { JOB_BYTE_COUNT_MAX } from '../../shared/queue/protocol.js';
import { RUN_LEASE_MS, WORKER_SILENCE_MS_MAX } from '../../shared/queue/timing.js';
import { RunFencedError } from '../../shared/storage/lease.js';
import { describeLeases, holderOf } from './job-queue-leases.js';
import {
  jobOf,
  type JobQueueUnderTest,
  resultOf,
  Scene,
  takenIds,
  type Test,
} from './job-queue-scene.js';

function describeWorkers(test: Test): void {
  test('lists the workers, and counts them for each of them', async (scene) => {
    expect(await scene.producer.workers()).toEqual([]);
    const [a, b] = [await scene.consumer('a'), await scene.consumer('b')];
    expect([a.name, b.name]).toEqual(['a', 'b']);
    expect(await scene.workerNames()).toEqual(['a', 'b']);
    expect(await a.beat('job-7')).toBe(2);
    const workers = await scene.producer.workers();
    expect(await (await scene.controller()).workers()).toEqual(workers);
    const [first] = workers.filter(({ name }) => name === 'a');
    expect(first).toEqual({
      ...{ name: 'a', instance: 'nonce-0', device: 'cpu', jobId: 'job-7', report: null },
      sinceMs: expect.any(Number) as number,
    });
    await a.close();
    await scene.until(async () => (await b.beat(null)) === 1);
    expect(await scene.workerNames()).toEqual(['b']);
  });

  test('tells what a worker said about itself last, as long as it lives', async (scene) => {
    const said: (WorkerReport | null)[] = [
      { device: null, ...{ residentByteCount: 90, computeResidentByteCount: null } },
      {
        device: { kind: 'gpu', model: 'NVIDIA H100', memoryMiB: 81_559, fingerprint: null },
        ...{ residentByteCount: 100, computeResidentByteCount: 400 },
      },
    ];
    const [first, second] = said;
    const telling = await scene.consumer('telling', () => said.shift() ?? null);
    await scene.consumer('silent');
    const controller = await scene.controller();
    const reports = async () =>
      Object.fromEntries((await controller.workers()).map(({ name, report }) => [name, report]));
    expect(await reports()).toEqual({ telling: first, silent: null });
    await telling.beat(null);
    expect(await reports()).toEqual({ telling: second, silent: null });
    await telling.close();
    await scene.until(async () => (await scene.workerNames()).length === 1);
    expect(await reports()).toEqual({ silent: null });
  });

  test('gives workers of one name different names', async (scene) => {
    const names: string[] = [];
    for (let count = 1; count <= 3; count += 1) names.push((await scene.consumer('same')).name);
    expect(names).toEqual(['same', 'same-2', 'same-3']);
    expect(await scene.workerNames()).toEqual(names);
    const third = await scene.consumer('other');
    expect(await third.beat(null)).toBe(4);
  });

  test('forgets a silent worker, until it says that it lives', async (scene) => {
    const [silent, live] = [await scene.consumer('silent'), await scene.consumer('live')];
    await scene.passInSilence(WORKER_SILENCE_MS_MAX + 1_000);
    expect(await live.beat(null)).toBe(1);
    expect(await scene.workerNames()).toEqual(['live']);
    expect(await silent.beat(null)).toBe(2);
    expect(await scene.workerNames()).toEqual(['live', 'silent']);
  });
}

function describeCancellations(test: Test): void {
  test('gives a cancellation to the run and the start that it names', async (scene) => {
    const controller = await scene.controller();
    expect(await controller.find('run')).toBeNull();
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await controller.find('run')).toEqual(holderOf('first'));
    await controller.cancel('other-run', { start: 'first' });
    await controller.cancel('run', { start: 'earlier' });
    expect(await scene.producer.renewLease(holderOf('first'))).toBeNull();
    await controller.cancel('run', { start: 'first' });
    expect(await scene.producer.renewLease(holderOf('first'))).toMatchObject({ start: 'first' });
  });

  test('shows how far its holder says the run is', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    // A run of 0 outer steps is what it starts from.
    for (const outerSteps of [10, 0]) {
      const training = { outerStep: 0, outerSteps };
      const holder = { ...holderOf('first'), progress: { state: 'stopping', training } as const };
      await scene.producer.renewLease(holder);
      expect(await controller.find('run')).toEqual(holder);
      const other = await scene.anotherProducer();
      expect(await other.takeLease('run', holderOf('second'), null)).toMatchObject({ holder });
    }
  });

  test('says how the coordinator that had the lease ended', async (scene) => {
    const controller = await scene.controller();
    await scene.producer.takeLease('run', holderOf('first'), null);
    expect(await controller.endOf('run', 'first')).toBeNull();
    const training = { outerStep: 7, outerSteps: 9 };
    await scene.producer.releaseLease({ kind: 'cancelled', training });
    const end = { start: 'first', kind: 'cancelled', training };
    expect(await controller.endOf('run', 'first')).toEqual(end);
    const second = await scene.anotherProducer();
    await second.takeLease('run', holderOf('second'), null);
    expect(await controller.endOf('run', 'second')).toBeNull();
    expect(await controller.endOf('run', 'first')).toEqual(end);
  });

  test('passes no cancellation on from a dead coordinator to the next one', async (scene) => {
    const [first, second] = [scene.producer, await scene.anotherProducer()];
    const controller = await scene.controller();
    await first.takeLease('run', holderOf('first'), null);
    await controller.cancel('run', { start: 'first' });
    await scene.passInSilence(RUN_LEASE_MS + 1_000);
    expect(await controller.find('run')).toBeNull();
    await second.takeLease('run', holderOf('second'), null);
    expect(await second.renewLease(holderOf('second'))).toBeNull();
    await expect(first.renewLease(holderOf('first'))).rejects.toThrow(RunFencedError);
  });
}

const BLOB_LIMITS = { lifetimeMs: 60_000, blobByteCountMax: 1_000 };

export function describeJobQueue(name: string, make: () => JobQueueUnderTest): void {
  const test = (title: string, body: (scene: Scene) => Promise<void>): void => {
    it(title, async () => {
      const underTest = make();
      await underTest.run(async () => {
        const scene = new Scene(underTest, await underTest.queue.openProducer(''));
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
    describeCancellations(test);
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
    const job = await consumer.next();
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
      await (await consumer.next()).fail({ kind, reason: 'because' });
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
    const jobs = [await first.next(), await first.next(), await second.next(), await second.next()];
    expect(jobs.map(({ jobId }) => jobId)).toEqual(['a', 'b', 'c', 'd']);
    for (const { jobId } of jobs)
      expect(await scene.producer.read(jobId)).toMatchObject({ state: 'open' });
  });

  test('delivers a returned job before waiting ones', async (scene) => {
    const [leaving, other] = [await scene.consumer('leaving'), await scene.consumer('other')];
    await scene.add('a', 'b');
    const job = await leaving.next();
    const stopped = leaving.stop();
    job.end({ kind: 'handed-back' });
    await stopped;
    expect(await scene.producer.read('a')).toEqual({ state: 'open', holder: 'leaving' });
    expect(await takenIds(other, 2)).toEqual(['a', 'b']);
    expect(leaving.errors).toEqual([]);
  });

  test('takes one job for each request', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('a', 'b', 'c');
    const first = await consumer.next();
    await first.complete(resultOf(0));
    expect(await scene.producer.read('b')).toEqual({ state: 'open', holder: null });
    consumer.takeOne({ waits: false, heldMax: 2 });
    consumer.takeOne({ waits: false, heldMax: 2 });
    expect((await consumer.next()).jobId).toBe('b');
    expect(await scene.producer.read('c')).toEqual({ state: 'open', holder: null });
  });

  test('wakes a waiting consumer', async (scene) => {
    const consumer = await scene.consumer();
    const waiting = consumer.next();
    await scene.add('late');
    expect((await waiting).jobId).toBe('late');
  });

  test('leaves a job unchanged when its id is added again', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('a');
    await scene.producer.add([{ jobId: 'a', job: jobOf(9) }]);
    const job = await consumer.next();
    expect(job.data).toEqual(jobOf(0));
    await job.complete(resultOf(0));
    await scene.add('a');
    expect(await scene.producer.read('a')).toMatchObject({ state: 'completed' });
  });

  test('takes the largest job again with a fingerprint', async (scene) => {
    const emptyByteCount = Buffer.byteLength(JSON.stringify(jobOf(0, { runId: '' })));
    const job = jobOf(0, { runId: 'x'.repeat(JOB_BYTE_COUNT_MAX - emptyByteCount) });
    expect(Buffer.byteLength(JSON.stringify(job))).toBe(JOB_BYTE_COUNT_MAX);
    const again = { ...job, fingerprint: 'cpu-avx512-onednn-3f9a1c22' };
    await scene.producer.add([{ jobId: 'a', job: again }]);
    expect((await (await scene.consumer()).next()).data).toEqual(again);
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
  test('keeps the lock of a job that is processed, and tells when it is lost', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('kept', 'lost');
    const kept = await consumer.next();
    const lost = await consumer.next();
    await scene.endLock('lost');
    await scene.until(() => Promise.resolve(lost.lost.aborted));
    expect(kept.lost.aborted).toBe(false);
    expect(consumer.errors.map(({ message }) => message)).toEqual([
      'could not renew lock for job lost',
    ]);
    lost.end({ kind: 'completed', result: resultOf(2) });
    await kept.complete(resultOf(0));
    await consumer.stop();
    expect(await scene.producer.read('lost')).toMatchObject({ state: 'open' });
  });

  test('leaves a job alone whose lock is lost', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('lost');
    const lost = await consumer.next();
    await scene.endLock('lost');
    await scene.until(() => Promise.resolve(lost.lost.aborted));
    const errorCount = consumer.errors.length;
    lost.end({ kind: 'lost' });
    await consumer.stop();
    expect(consumer.errors).toHaveLength(errorCount);
  });

  test('fails a delivery that has lost its worker when it is next taken, each time', async (scene) => {
    const dead = await scene.consumer('dead');
    const other = await scene.consumer('other');
    const woken: string[] = [];
    scene.producer.subscribe((jobId) => woken.push(jobId));
    await scene.add('first', 'second');
    for (let count = 1; count <= 2; count += 1) await dead.next();
    other.takeOne({ waits: true, heldMax: 2 });
    for (const jobId of ['first', 'second']) {
      await scene.endLock(jobId);
      await scene.until(async () => (await scene.producer.read(jobId)).state === 'failed');
      expect(await scene.producer.read(jobId)).toEqual({
        ...{ state: 'failed', worker: 'other' },
        reason: 'worker-lost: the worker that held the job is lost',
      });
    }
    await scene.until(() => Promise.resolve(woken.length === 2));
    expect(woken).toEqual(['first', 'second']);
    await scene.add('next');
    expect((await other.next()).jobId).toBe('next');
  });
}

function describeRemoving(test: Test): void {
  test('removes waiting jobs and leaves held ones', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('held', 'waiting');
    const held = await consumer.next();
    await scene.producer.remove(['held', 'waiting', 'never-added']);
    expect(await scene.producer.read('waiting')).toEqual({ state: 'gone' });
    expect(await scene.producer.read('held')).toMatchObject({ state: 'open' });
    await held.complete(resultOf(0));
    expect(await scene.producer.read('held')).toMatchObject({ state: 'completed' });
  });

  test('removes the waiting jobs of one run, and counts them', async (scene) => {
    const consumer = await scene.consumer();
    await scene.add('held', 'a', 'b');
    await scene.producer.add([{ jobId: 'other', job: jobOf(0, { runId: 'other' }) }]);
    await consumer.next();
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
    await closing.next();
    await closing.close();
    other.takeOne({ waits: true, heldMax: 2 });
    expect(await scene.producer.read('a')).toEqual({ state: 'open', holder: 'closing' });
    await scene.endLock('a');
    await scene.until(async () => (await scene.producer.read('a')).state === 'failed');
    expect(await scene.producer.read('a')).toMatchObject({ worker: 'other' });
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

  test('takes nothing after it has stopped, or while it is paused', async (scene) => {
    const [stopped, paused] = [await scene.consumer('stopped'), await scene.consumer('paused')];
    for (const consumer of [stopped, paused]) consumer.takeOne({ waits: true, heldMax: 2 });
    await stopped.stop();
    stopped.takeOne({ waits: true, heldMax: 2 });
    paused.pause();
    const resumed = paused.next();
    await scene.add('a');
    expect((await resumed).jobId).toBe('a');
    await scene.add('b');
    expect(await scene.producer.read('b')).toEqual({ state: 'open', holder: null });
  });

  test('wakes the start alone that has added a job', async (scene) => {
    const consumer = await scene.consumer();
    const [one, other] = [await scene.anotherProducer('one'), await scene.anotherProducer('other')];
    const woken: string[] = [];
    for (const producer of [one, other])
      producer.subscribe((jobId) => woken.push(`${producer === one ? 'one' : 'other'} ${jobId}`));
    await scene.add('job-of-other-1', 'job-of-one-1', 'job-of-one-2');
    await takenIds(consumer, 3);
    await scene.until(() => Promise.resolve(woken.length === 3));
    expect(woken.sort()).toEqual(['one job-of-one-1', 'one job-of-one-2', 'other job-of-other-1']);
  });

  test('wakes listeners until they stop', async (scene) => {
    const consumer = await scene.consumer();
    const [first, second]: string[][] = [[], []];
    const unsubscribe = scene.producer.subscribe((jobId) => first!.push(jobId));
    scene.producer.subscribe((jobId) => second!.push(jobId));
    for (const jobId of ['a', 'b']) {
      await scene.add(jobId);
      await (await consumer.next()).complete(resultOf(0));
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
