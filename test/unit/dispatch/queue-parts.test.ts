/** The small parts at both ends of the queue: leases, cache, mailbox, patience. */

import { describe, expect, it } from 'vitest';
import { BlobLeases } from '../../../coordinator/dispatch/step-blobs.js';
import { Mailbox } from '../../../coordinator/dispatch/dispatch-step.js';
import { createQueuePatience } from '../../../coordinator/dispatch/queue-patience.js';
import { systemClock } from '../../../shared/base/clock.js';
import { QueueRefusedError, QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import {
  type RunEvent,
  objectStoreAway,
  objectStoreBack,
} from '../../../shared/events/run-events.js';
import { StoreUnavailableError } from '../../../shared/storage/object-store.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';
import { InputCache } from '../../../worker/carrying/carry-job.js';
import { WorkerRest } from '../../../worker/carrying/work-loop.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

describe('BlobLeases', () => {
  it('returns a blob with its last user; equal bytes are one blob', () => {
    const leases = new BlobLeases();
    const [first, equal] = [Uint8Array.of(1, 2), Uint8Array.of(1, 2)];
    expect([leases.lease(first), leases.lease(equal)]).toEqual([true, false]);
    expect(leases.release(equal)).toEqual([]);
    expect(leases.isLeased(leases.refOf(first))).toBe(true);
    expect(leases.release(first)).toEqual([leases.refOf(first)]);
    expect(leases.isLeased(leases.refOf(first))).toBe(false);
  });

  it('holds the two newest frozen blobs, and returns the older ones', () => {
    const leases = new BlobLeases();
    const [a, b, c] = [1, 2, 3].map((value) => Uint8Array.of(value)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    expect([a, b, a].map((bytes) => leases.hold(bytes))).toEqual([[], [], []]);
    expect(leases.hold(c)).toEqual([leases.refOf(b)]);
    expect(leases.releaseHeld()).toEqual([leases.refOf(a), leases.refOf(c)]);
  });

  // Seen to fail: each of three trials at once put its frozen inputs again in every outer step.
  it('holds a frozen blob of each training at once', () => {
    const leases = new BlobLeases(3);
    const [a, b, c, d] = [1, 2, 3, 4].map((value) => Uint8Array.of(value)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    expect([a, b, c, a].map((bytes) => leases.hold(bytes))).toEqual([[], [], [], []]);
    expect(leases.hold(d)).toEqual([leases.refOf(b)]);
  });
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

  it('also forgets small inputs: those of past outer steps are never requested again', async () => {
    const blobs = new MemoryBlobStore();
    const cache = new InputCache(1_000_000);
    for (let outerStep = 0; outerStep < 100; outerStep += 1)
      await cache.get(await blobs.put(Uint8Array.of(outerStep)), blobs);
    expect(cache.byteCount).toBe(12);
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

  it('does not keep an input larger than the cache', async () => {
    const blobs = new MemoryBlobStore();
    const cache = new InputCache(1);
    await cache.get(await blobs.put(Uint8Array.of(1, 2)), blobs);
    expect(cache.byteCount).toBe(0);
  });
});

describe('WorkerRest', () => {
  it.each<[Parameters<WorkerRest['couldNot']>[0], number[]]>([
    ['refused', [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]],
    ['sick', [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]],
    ['failed', [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]],
  ])('grows with every job that is %s, and is due once', (cause, expected) => {
    const rest = new WorkerRest();
    expect([rest.take(), rest.isDoubtful]).toEqual([0, false]);
    const rests = expected.map(() => {
      rest.couldNot(cause);
      return rest.take();
    });
    expect(rests).toEqual(expected);
    expect([rest.take(), rest.isDoubtful]).toEqual([0, true]);
  });

  it('ends with a job that is done', () => {
    const rest = new WorkerRest();
    rest.couldNot('sick');
    rest.did();
    expect([rest.take(), rest.isDoubtful]).toEqual([0, false]);
  });
});

describe('Mailbox', () => {
  const never = new AbortController().signal;

  it('returns arrived items immediately, each once', async () => {
    const mailbox = new Mailbox<number>(systemClock);
    for (const [index, item] of ['a', 'b', 'a'].entries()) mailbox.put(item, index);
    expect([...(await mailbox.take(60_000, never))]).toEqual([
      ['a', 2],
      ['b', 1],
    ]);
    expect([...(await mailbox.take(0, never))]).toEqual([]);
  });

  it('wakes for an arrival and for an abort', async () => {
    const mailbox = new Mailbox<number>(systemClock);
    const taken = mailbox.take(60_000, never);
    mailbox.put('late', 1);
    expect([...(await taken)]).toEqual([['late', 1]]);
    const abort = new AbortController();
    const interrupted = mailbox.take(60_000, abort.signal);
    abort.abort();
    expect([...(await interrupted)]).toEqual([]);
  });
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

  it('reports an object store of large blobs that is away as what it is', async () => {
    const { sut, events } = patience();
    const cause = new StoreUnavailableError({ what: 'unreachable', where: 's3://blobs' });
    const storeOutage = new QueueUnavailableError({ what: 'away', found: 'ECONNREFUSED', cause });
    let isAway = true;
    await sut.attempt(() => {
      if (!isAway) return Promise.resolve();
      isAway = false;
      return Promise.reject(storeOutage);
    }, 60_000);
    expect(events).toEqual([
      objectStoreAway({ address: 's3://blobs', reason: 'ECONNREFUSED' }),
      objectStoreBack(50),
    ]);
    await expect(sut.attempt(() => Promise.reject(storeOutage), 100)).rejects.toMatchObject({
      report: {
        what: 'the object store of large blobs stayed away for longer than one outer step may take',
        where: 's3://blobs',
      },
    });
  });

  it('gives up at the deadline, resumable', async () => {
    const { sut, clock } = patience();
    await expect(sut.attempt(() => Promise.reject(outage), 10_000)).rejects.toMatchObject({
      kind: 'transient',
    });
    expect(clock.monotonicMs()).toBeLessThanOrEqual(10_000);
    expect(clock.monotonicMs()).toBeGreaterThan(8_000);
  });

  it('says nothing of a server that is back after it has given up', async () => {
    const { sut, events } = patience();
    await sut.attempt(() => Promise.reject(outage), 1_000).catch(() => undefined);
    let callCount = 0;
    const tidy = (): Promise<void> => {
      callCount += 1;
      return callCount === 1 ? Promise.reject(outage) : Promise.resolve();
    };
    await sut.attemptQuietly(tidy, 2_000);
    callCount = 0;
    await sut.attempt(tidy, 5_000);
    expect(events.map(({ kind }) => kind)).toEqual(['redis-away']);
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
    await expect(sut.attempt(write, 60_000)).rejects.toMatchObject({
      kind: 'environment',
      report: { what: 'it cannot write', cure: 'free the disk; then continue with --resume' },
    });
    expect(clock.monotonicMs() - sinceMs).toBeLessThanOrEqual(5_000);
    expect(clock.monotonicMs() - sinceMs).toBeGreaterThan(3_000);
  });

  it('does not wait for a right that the user lacks', async () => {
    const { sut, clock, events } = patience();
    const report = { what: 'not allowed', found: 'NOPERM', cure: 'give the right' };
    const forbidden = new QueueRefusedError('permission', report);
    await expect(sut.attempt(() => Promise.reject(forbidden), 60_000)).rejects.toMatchObject({
      kind: 'environment',
      report: { found: 'NOPERM', cure: expect.stringContaining('give the right') as string },
    });
    expect([clock.monotonicMs(), events]).toEqual([0, []]);
  });

  it('adds one listener to a signal, however many calls wait', async () => {
    const abort = new AbortController();
    let listenerCount = 0;
    const add = abort.signal.addEventListener.bind(abort.signal);
    abort.signal.addEventListener = (...args: Parameters<typeof add>) => {
      listenerCount += 1;
      add(...args);
    };
    const clock = systemClock;
    const waiting = createQueuePatience({
      ...{ where: 'redis://h:1', clock, refusalWaitMs: 0, sink: () => undefined },
    });
    const calls = Array.from({ length: 30 }, () =>
      waiting.attempt(() => Promise.reject(outage), Number.POSITIVE_INFINITY, abort.signal),
    );
    const ended = Promise.allSettled(calls);
    await new Promise((resolve) => setImmediate(resolve));
    expect(listenerCount).toBe(1);
    abort.abort();
    expect((await ended).map(({ status }) => status)).toEqual(calls.map(() => 'rejected'));
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
