/** Stores that wait for their server, over a store in memory that is away when the test says so. */

import { describe, expect, it } from 'vitest';
import type { QianmoError } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { StoreUnavailableError, type ObjectStore } from '../../../shared/storage/object-store.js';
import { StoreWait, waitingStore } from '../../../shared/storage/waiting-object-store.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const WAIT_MS = 900_000;
const away = new StoreUnavailableError({
  what: 'the object store cannot be reached',
  where: 's3://bucket',
  found: 'ECONNREFUSED',
  cure: 'start it',
});

function room() {
  const clock = instantClock();
  const abort = new AbortController();
  const told: unknown[] = [];
  const wait = new StoreWait({
    ...{ clock, signal: abort.signal, waitMs: WAIT_MS, waitField: 'queue.outerStepTimeoutMs' },
    onAway: (outage) => told.push(outage),
    onBack: (awayMs) => told.push(awayMs),
  });
  const memory = new MemoryObjectStore();
  /** Throws while the server is away. */
  let trouble: () => QianmoError | null = () => null;
  let callCount = 0;
  const fragile = <Answer>(action: () => Promise<Answer>): Promise<Answer> => {
    callCount += 1;
    const error = trouble();
    return error === null ? action() : Promise.reject(error);
  };
  const server: ObjectStore = {
    address: 's3://bucket',
    get: (key) => fragile(() => memory.get(key)),
    put: (key, bytes, condition) => fragile(() => memory.put(key, bytes, condition)),
    list: (prefix) => fragile(() => memory.list(prefix)),
    listWithTimes: (prefix) => fragile(() => memory.listWithTimes(prefix)),
    delete: (key) => fragile(() => memory.delete(key)),
  };
  return {
    ...{ clock, abort, told, memory, wait },
    store: waitingStore(server, wait),
    fails: (next: () => QianmoError | null) => void (trouble = next),
    callCount: () => callCount,
  };
}

describe('a store that waits', () => {
  it('waits for a server that is away for a minute, and reports both ends once', async () => {
    const { clock, store, wait, told, fails, memory } = room();
    await store.list('');
    fails(() => (clock.monotonicMs() < 60_000 ? away : null));
    const other = waitingStore(store, wait);
    const always = { kind: 'always' } as const;
    await Promise.all([store.put('a', Buffer.from('1'), always), other.delete('b')]);
    expect(await memory.list('')).toEqual(['a']);
    expect(told).toEqual([
      { address: 's3://bucket', reason: 'ECONNREFUSED' },
      expect.any(Number) as number,
    ]);
  });

  it('fails after the wait, and does not wait again to clean up', async () => {
    const { clock, store, told, fails, callCount } = room();
    await store.list('');
    fails(() => away);
    await expectFailureOf(store.get('a'), 'transient', {
      what: 'the object store cannot be reached, for longer than queue.outerStepTimeoutMs allows',
      where: 's3://bucket',
      found: 'ECONNREFUSED',
      cure: 'start it; then continue with --resume, or raise queue.outerStepTimeoutMs',
    });
    expect(clock.monotonicMs()).toBeLessThan(WAIT_MS);
    const before = callCount();
    await expect(store.delete('a')).rejects.toBe(away);
    expect(callCount()).toBe(before + 1);
    fails(() => null);
    await store.list('');
    expect(told).toHaveLength(1);
  });

  it('knows its own conditional write whose answer was lost', async () => {
    const { store, memory, fails } = room();
    await store.list('');
    const bytes = Buffer.from('mine');
    let isLost = true;
    fails(() => {
      if (!isLost) return null;
      isLost = false;
      void memory.put('a', bytes, { kind: 'absent' });
      return away;
    });
    const etag = await store.put('a', bytes, { kind: 'absent' });
    expect(etag).toBe((await memory.get('a'))!.etag);
    expect(await store.put('a', bytes, { kind: 'absent' })).toBeNull();
  });
});
