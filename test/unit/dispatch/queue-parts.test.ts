/** The small parts at both ends of the queue: leases, cache, rest, patience. */

import { describe, expect, it } from 'vitest';
import { BlobLeases } from '../../../coordinator/dispatch/step-blobs.js';
import { createQueuePatience } from '../../../coordinator/dispatch/queue-patience.js';
import { QueueRefusedError, QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import { type RunEvent } from '../../../shared/events/run-events.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import { InputCache } from '../../../worker/carrying/carry-job.js';
import { WorkerRest } from '../../../worker/carrying/work-loop.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { expectFailureOf } from '../../fixtures/failures.js';

// Seen to fail: each of three trials at once put its frozen inputs again in every outer step.
it('BlobLeases holds a frozen blob of each training at once', () => {
  const leases = new BlobLeases(3);
  const [a, b, c, d] = [[1], [2], [3], [4]].map((values) => Uint8Array.from(values));
  expect([a, b, c, a].map((bytes) => leases.hold(bytes!))).toEqual([[], [], [], []]);
  expect(leases.hold(d!)).toEqual([leases.refOf(b!)]);
});

describe('InputCache', () => {
  it('fetches once, and evicts the least recently used input', async () => {
    const blobs = new MemoryBlobStore();
    const cache = new InputCache(5);
    const [a, b, c] = await Promise.all(
      [1, 2, 3].map((value) => blobs.put(new Uint8Array(2).fill(value))),
    );
    await cache.get(a!, blobs);
    await cache.get(b!, blobs);
    await cache.get(a!, blobs);
    expect(blobs.bytesRead).toBe(4);
    // 2 + 2 + 2 > 5: b is evicted because a was used after it.
    await cache.get(c!, blobs);
    await cache.get(a!, blobs);
    expect(blobs.bytesRead).toBe(6);
    await cache.get(b!, blobs);
    expect(blobs.bytesRead).toBe(8);
    expect(cache.byteCount).toBe(4);
  });

  it('fetches once for a job and the job received ahead', async () => {
    const blobs = new MemoryBlobStore();
    const cache = new InputCache(10);
    const ref = await blobs.put(Uint8Array.of(1, 2));
    const both = await Promise.all([cache.get(ref, blobs), cache.get(ref, blobs)]);
    expect(both.map((bytes) => [...bytes])).toEqual([
      [1, 2],
      [1, 2],
    ]);
    expect(blobs.bytesRead).toBe(2);
    expect(cache.byteCount).toBe(2);
    await blobs.delete(ref);
    const gone = await blobs.put(Uint8Array.of(3));
    await blobs.delete(gone);
    await expect(cache.get(gone, blobs)).rejects.toThrow('is not there');
    await blobs.put(Uint8Array.of(3));
    expect([...(await cache.get(gone, blobs))]).toEqual([3]);
  });

  it('fetches the inputs of four interleaved runs once, even if one of them makes two outer steps in a row', async () => {
    const blobs = new MemoryBlobStore();
    const cache = new InputCache(1_000_000);
    const asked = new Set<string>();
    const job = async (run: number, outerStep: number): Promise<void> => {
      for (const input of [Uint8Array.of(run, 1, outerStep), Uint8Array.of(run, 0, 0)]) {
        const ref = await blobs.put(input);
        asked.add(ref.sha256);
        await cache.get(ref, blobs);
      }
    };
    for (let turn = 0; turn < 20; turn += 1) {
      await job(0, 2 * turn);
      await job(0, 2 * turn + 1);
      for (const run of [1, 2, 3]) await job(run, Math.floor(turn / 3));
    }
    expect(blobs.bytesRead).toBe(3 * asked.size);
  });
});

it.each<[Parameters<WorkerRest['couldNot']>[0], number[]]>([
  ['refused', [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]],
  ['sick', [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]],
  ['failed', [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]],
])('WorkerRest grows with every job that is %s, and is due once', (cause, expected) => {
  const rest = new WorkerRest();
  expect([rest.take(), rest.isDoubtful]).toEqual([0, false]);
  const rests = expected.map(() => {
    rest.couldNot(cause);
    return rest.take();
  });
  expect(rests).toEqual(expected);
  expect([rest.take(), rest.isDoubtful]).toEqual([0, true]);
});

describe('QueuePatience', () => {
  const outage = new QueueUnavailableError({ what: 'no answer', found: 'connection refused' });
  const full = new QueueRefusedError('disk', {
    ...{ what: 'it cannot write', found: 'MISCONF', cure: 'free the disk' },
  });

  function patience() {
    const events: RunEvent[] = [];
    const clock = instantClock();
    const sut = createQueuePatience({
      where: 'redis://h:1',
      clock,
      refusalWaitMs: 5_000,
      sink: (event) => void events.push(event),
    });
    return { sut, clock, events };
  }

  it('retries until Redis is back, and reports each event once', async () => {
    const { sut, events } = patience();
    let callCount = 0;
    const value = await sut.attempt(() => {
      callCount += 1;
      return callCount < 5 ? Promise.reject(outage) : Promise.resolve('value');
    }, 60_000);
    expect(value).toBe('value');
    expect(sut.lastAwayMs).toBe(350);
    // Pauses of 50 + 100 + 200 + 400 ms.
    expect(events).toEqual([
      { kind: 'redis-away', address: 'redis://h:1', reason: 'connection refused' },
      { kind: 'redis-back', awayMs: 750 },
    ]);
  });

  it('gives up at the deadline, resumable', async () => {
    const { sut, clock } = patience();
    await expect(sut.attempt(() => Promise.reject(outage), 10_000)).rejects.toMatchObject({
      kind: 'transient',
    });
    expect(clock.monotonicMs()).toBeLessThanOrEqual(10_000);
    expect(clock.monotonicMs()).toBeGreaterThan(8_000);
  });

  it('waits for room on a full server, for as long as configured', async () => {
    const { sut, clock, events } = patience();
    let isFull = true;
    const write = (): Promise<void> => (isFull ? Promise.reject(full) : Promise.resolve());
    const writing = sut.attempt(write, 60_000);
    // Reading works meanwhile, and does not mean that there is room.
    await sut.attempt(() => Promise.resolve(), 60_000);
    isFull = false;
    await writing;
    expect(events.map(({ kind }) => kind)).toEqual(['redis-refuses', 'redis-accepts']);
    isFull = true;
    const sinceMs = clock.monotonicMs();
    await expectFailureOf(sut.attempt(write, 60_000), 'environment', {
      what: 'it cannot write',
      cure: 'free the disk; then continue with --resume',
    });
    expect(clock.monotonicMs() - sinceMs).toBeLessThanOrEqual(5_000);
    expect(clock.monotonicMs() - sinceMs).toBeGreaterThan(3_000);
  });

  it('does not wait for a right that the user lacks', async () => {
    const { sut, clock, events } = patience();
    const report = { what: 'not allowed', found: 'NOPERM', cure: 'give the right' };
    const forbidden = new QueueRefusedError('permission', report);
    await expectFailureOf(
      sut.attempt(() => Promise.reject(forbidden), 60_000),
      'environment',
      { found: 'NOPERM', cure: /give the right/ },
    );
    expect([clock.monotonicMs(), events]).toEqual([0, []]);
  });

  it('passes on every other error, and stops on a signal', async () => {
    const { sut, events } = patience();
    const wrong = new Error('connect ECONNREFUSED 127.0.0.1:1');
    await expect(sut.attempt(() => Promise.reject(wrong), 10_000)).rejects.toBe(wrong);
    expect(events).toEqual([]);
    const aborted = AbortSignal.abort();
    await expect(sut.attempt(() => Promise.reject(outage), 10_000, aborted)).rejects.toMatchObject({
      kind: 'interrupted',
    });
  });
});
