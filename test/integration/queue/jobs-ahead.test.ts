/** The job that a worker holds ahead: who gets it, who waits for it, and its outcome. */

import { describe, expect, it } from 'vitest';
import type { JobExecutor, JobInput } from '../../../shared/queue/job-executor.js';
import { RedisBlobStore } from '../../../shared/storage/redis-blob-store.js';
import { resultsOf } from '../../conformance/dispatcher.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import { type WorkerInTest } from '../../fixtures/queue/queue-under-test.js';
import { raisedOutput } from '../../fixtures/queue/remote-control.js';
import { systemClock } from '../../../shared/base/clock.js';

const room = new QueueRoom('ahead');

/** An executor whose jobs end when the test says so, and which reports its requests. */
class SteppedExecutor implements JobExecutor {
  readonly started: number[] = [];
  readonly prepared: number[] = [];
  isOpen = false;
  #ends: (() => void)[] = [];
  #changed: (() => void)[] = [];

  async execute(input: JobInput, signal?: AbortSignal) {
    this.started.push(input.job.jobIndex);
    this.#change();
    if (!this.isOpen)
      await new Promise<void>((resolve, reject) => {
        this.#ends.push(resolve);
        signal?.addEventListener('abort', () => reject(new Error('given up')));
      });
    return raisedOutput(input, 'stepped');
  }

  prepare(input: JobInput | null): void {
    if (input === null) return;
    this.prepared.push(input.job.jobIndex);
    this.#change();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Ends the current job, and with `open` all later ones immediately. */
  end(open = false): void {
    this.isOpen = open;
    this.#ends.shift()?.();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }

  #change(): void {
    for (const changed of this.#changed.splice(0)) changed();
  }
}

const worker = (executor: JobExecutor, name: string): Promise<WorkerInTest> =>
  room.worker(executor, { name });

async function running(jobCount: number, part: Record<string, unknown> = {}) {
  const { dispatcher } = await room.dispatcher(part);
  return resultsOf(dispatcher, jobCount);
}

const listed = (list: string): Promise<number> =>
  room.redis.client.llen(`${room.prefix}:inner-loops:${list}`);

async function untilListed(list: string, count: number): Promise<void> {
  while ((await listed(list)) !== count) await systemClock.sleep(5);
}

describe('a job ahead', () => {
  it('is fetched and sent while another is computed, and computed next', async () => {
    const executor = new SteppedExecutor();
    await worker(executor, 'one');
    const results = running(3);
    await executor.until(() => executor.prepared.length === 1);
    expect(executor.started).toEqual([0]);
    await untilListed('active', 2);
    expect(await listed('wait')).toBe(1);
    executor.end();
    await executor.until(() => executor.started.length === 2);
    expect(executor.prepared[0]).toBe(executor.started[1]);
    executor.end(true);
    expect(await results).toHaveLength(3);
  });

  it('is not taken from a queue that has fewer jobs than workers', async () => {
    const [first, second] = [new SteppedExecutor(), new SteppedExecutor()];
    await worker(first, 'first');
    await worker(second, 'second');
    const results = running(3);
    await Promise.all([
      first.until(() => first.started.length === 1),
      second.until(() => second.started.length === 1),
    ]);
    // The worker that finishes first takes the third job: no worker held it.
    second.end();
    await second.until(() => second.started.length === 2);
    expect([...first.prepared, ...second.prepared]).toEqual([]);
    second.end(true);
    first.end(true);
    expect(await results).toHaveLength(3);
  });

  it('is handed back when its turn does not come and others are idle', async () => {
    const [slow, quick] = [new SteppedExecutor(), new SteppedExecutor()];
    const holder = await worker(slow, 'slow');
    const results = running(4);
    await slow.until(() => slow.prepared.length === 1);
    quick.isOpen = true;
    await worker(quick, 'quick');
    // All but the stuck job, including the one held ahead.
    await quick.until(() => quick.started.length === 3);
    expect(holder.events.filter(({ kind }) => kind === 'job-handed-back')).toHaveLength(1);
    expect(slow.started).toHaveLength(1);
    slow.end(true);
    expect(await results).toHaveLength(4);
  });

  it('is handed back with the current one when its worker stops, without using an attempt', async () => {
    const executor = new SteppedExecutor();
    const stopped = await worker(executor, 'stopped');
    const results = running(3, { jobAttemptsMax: 1 });
    await executor.until(() => executor.prepared.length === 1);
    await stopped.stop();
    expect(stopped.events.filter(({ kind }) => kind === 'job-handed-back')).toHaveLength(2);
    expect(stopped.events.filter(({ kind }) => kind === 'redis-trouble')).toEqual([]);
    expect(await listed('wait')).toBe(3);
    const other = new SteppedExecutor();
    other.isOpen = true;
    await worker(other, 'other');
    expect(await results).toHaveLength(3);
  });

  it('costs nothing when its inputs are lost: they are put again', async () => {
    const executor = new SteppedExecutor();
    await worker(executor, 'one');
    const { dispatcher, events } = await room.dispatcher({ jobAttemptsMax: 1 });
    const blobs = new RedisBlobStore({
      redis: room.redis.client,
      prefix: room.prefix,
      lifetimeMs: 60_000,
      blobByteCountMax: 1_000,
    });
    const results = resultsOf(dispatcher, 4);
    await executor.until(() => executor.prepared.length === 1);
    const keys = await room.redis.client.keys(`${room.prefix}:blob:*`);
    for (const key of keys)
      await blobs.delete({ sha256: key.split(':').at(-1) ?? '', byteCount: 3 });
    executor.end(true);
    expect(await results).toHaveLength(4);
    const reasons = events.flatMap((event) => (event.kind === 'job-retried' ? event.reason : []));
    expect(reasons.join()).toContain('is not there');
  });
});

it('a worker renews blobs for as long as the run requests', async () => {
  const executor = new SteppedExecutor();
  await worker(executor, 'one');
  const results = running(2, { blobLifetimeMs: 86_400_000 });
  await executor.until(() => executor.prepared.length === 1);
  const keys = await room.redis.client.keys(`${room.prefix}:blob:*`);
  const lifetimes = await Promise.all(keys.map((key) => room.redis.client.pttl(key)));
  // The orders of a test request a minute, and the worker was the last to use them.
  expect(Math.max(...lifetimes)).toBeLessThanOrEqual(60_000);
  executor.end(true);
  expect(await results).toHaveLength(2);
});
