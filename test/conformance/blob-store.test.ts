/** The contract of every blob store, run on each implementation: over objects, a real Redis. */

import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi, onTestFinished } from 'vitest';
import { QianmoError } from '../../shared/base/errors.js';
import { startEmbeddedRedis } from '../../infra/bootstrap/embedded-redis.mjs';
import {
  BlobMissingError,
  type BlobRef,
  type BlobStore,
  ObjectBlobStore,
  blobKeyOf,
  blobRefOf,
} from '../../shared/storage/blob-store.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import { RedisBlobStore } from '../../shared/storage/redis-blob-store.js';
import { openedOnce } from '../fixtures/opened.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';
import { expectFailureOf } from '../fixtures/failures.js';

/** As blobs lie in Redis. */
const PIECE_BYTE_COUNT = 4 * 1024 * 1024;

type CountingBlobStore = BlobStore & { readonly bytesWritten: number; readonly bytesRead: number };

function patternOf(byteCount: number, salt = 0): Uint8Array {
  return new Uint8Array(byteCount).map((_, index) => index * 31 + salt);
}

function conformanceSuite(freshStore: () => Promise<CountingBlobStore>): void {
  let store: CountingBlobStore;
  beforeEach(async () => {
    store = await freshStore();
  });

  it.each([0, 1, 1000, PIECE_BYTE_COUNT, 2 * PIECE_BYTE_COUNT + 1])(
    'gives back %i bytes under a reference that is their digest',
    async (byteCount) => {
      const bytes = patternOf(byteCount);
      const ref = await store.put(bytes);
      expect(ref).toEqual(blobRefOf(bytes));
      expect(await store.has(ref)).toBe(true);
      expect(Buffer.compare(await store.get(ref), bytes)).toBe(0);
    },
  );

  it('puts a view into a larger buffer without the surrounding bytes', async () => {
    const ref = await store.put(Uint8Array.of(9, 1, 2, 9).subarray(1, 3));
    expect([...(await store.get(ref))]).toEqual([1, 2]);
  });

  it('accepts the reference of bytes that were hashed earlier', async () => {
    const bytes = patternOf(300);
    const ref = blobRefOf(bytes);
    expect(await store.put(bytes, ref)).toEqual(ref);
    expect(Buffer.compare(await store.get(ref), bytes)).toBe(0);
  });

  it('counts what was transferred', async () => {
    const bytes = patternOf(500);
    const ref = await store.put(bytes);
    expect(store.bytesWritten).toBe(500);
    await store.get(ref);
    await store.get(ref);
    expect(store.bytesRead).toBe(1000);
  });

  it('does not share memory with the writer or between readers', async () => {
    const bytes = patternOf(10);
    const ref = await store.put(bytes);
    bytes[0] = 77;
    (await store.get(ref))[1] = 77;
    expect(Buffer.compare(await store.get(ref), patternOf(10))).toBe(0);
  });

  it('reports which blob is missing', async () => {
    const ref = blobRefOf(patternOf(10));
    expect(await store.has(ref)).toBe(false);
    const failure: unknown = await store.get(ref).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(BlobMissingError);
    expect(failure).toMatchObject({ ref });
  });

  it.each([
    [PIECE_BYTE_COUNT + 5, 3],
    [3, PIECE_BYTE_COUNT + 5],
  ])('gives no blob of %i bytes under a forged reference of %i', async (kept, forged) => {
    const ref = await store.put(patternOf(kept));
    const failure: unknown = await store
      .get({ ...ref, byteCount: forged })
      .catch((error: unknown) => error);
    const isData = failure instanceof QianmoError && failure.kind === 'data';
    expect(isData || failure instanceof BlobMissingError, String(failure)).toBe(true);
  });

  it('deletes blobs, including missing ones, and accepts the blob again', async () => {
    const bytes = patternOf(10);
    const ref = await store.put(bytes);
    await store.delete(ref);
    await store.delete(ref);
    expect(await store.has(ref)).toBe(false);
    await expect(store.get(ref)).rejects.toBeInstanceOf(BlobMissingError);
    await store.put(bytes);
    expect(await store.has(ref)).toBe(true);
  });

  it('keeps a blob that is put while its deletion is under way', async () => {
    const bytes = patternOf(10);
    const ref = await store.put(bytes);
    const other = await store.put(patternOf(11));
    const deletions = [store.delete(other), store.delete(ref)];
    await store.put(bytes);
    await Promise.all(deletions);
    expect(await store.has(ref)).toBe(true);
    expect(await store.has(other)).toBe(false);
  });

  it('accepts the same blob from many writers at once', async () => {
    const bytes = patternOf(PIECE_BYTE_COUNT + 5);
    const refs = await Promise.all(Array.from({ length: 6 }, () => store.put(bytes)));
    expect(new Set(refs.map((ref) => ref.sha256)).size).toBe(1);
    expect(Buffer.compare(await store.get(refs[0]!), bytes)).toBe(0);
  });
}

describe('blob store over objects', () => {
  conformanceSuite(() => Promise.resolve(new ObjectBlobStore(new MemoryObjectStore())));

  it('refuses bytes that do not match the reference, and names it', async () => {
    const objects = new MemoryObjectStore();
    const store = new ObjectBlobStore(objects);
    const ref = await store.put(patternOf(10));
    await objects.put(blobKeyOf(ref), patternOf(9), { kind: 'always' });
    await expectFailureOf(store.get(ref), 'data', { expected: /10 bytes/ });
  });

  it('putVerified restores a blob that something else has overwritten', async () => {
    const objects = new MemoryObjectStore();
    const store = new ObjectBlobStore(objects);
    const bytes = patternOf(10);
    const ref = await store.put(bytes);
    await objects.put(blobKeyOf(ref), patternOf(10, 1), { kind: 'always' });
    await store.put(bytes);
    await expect(store.get(ref)).rejects.toMatchObject({ kind: 'data' });
    await store.putVerified(bytes);
    expect(Buffer.compare(await store.get(ref), bytes)).toBe(0);
  });

  it('putVerified does not report success for a blob that does not persist', async () => {
    class Forgetful extends MemoryObjectStore {
      override get(): Promise<null> {
        return Promise.resolve(null);
      }
    }
    await expect(
      new ObjectBlobStore(new Forgetful()).putVerified(patternOf(3)),
    ).rejects.toMatchObject({ kind: 'environment' });
  });
});

describe('blob store in Redis', () => {
  const folder = openedOnce(temporaryFolder);
  const server = openedOnce(() => startEmbeddedRedis({ dataDir: folder.path }));
  let redis: Redis;
  const lifetimeMs = 600_000;
  const blobByteCountMax = 16 * 1024 * 1024;
  beforeAll(() => {
    redis = new Redis(server.url, { maxRetriesPerRequest: 1 });
    redis.on('error', () => undefined);
  });
  afterAll(() => redis.disconnect());
  const open = (options = {}): RedisBlobStore =>
    new RedisBlobStore({ redis, prefix: '{test}', lifetimeMs, blobByteCountMax, ...options });
  const keyOf = (ref: BlobRef): string => `{test}:blob:${ref.sha256}`;

  conformanceSuite(async () => {
    await redis.flushdb();
    return open();
  });

  it('cuts a blob into pieces, each with a lifetime, and deletes all of them', async () => {
    await redis.flushdb();
    const store = open();
    const ref = await store.put(patternOf(2 * PIECE_BYTE_COUNT + 1));
    const keys = [keyOf(ref), `${keyOf(ref)}:1`, `${keyOf(ref)}:2`];
    expect((await redis.keys('*')).sort()).toEqual(keys);
    for (const key of keys) expect(await redis.pttl(key)).toBeGreaterThan(lifetimeMs - 60_000);
    await store.delete(ref);
    expect(await redis.dbsize()).toBe(0);
  });

  it('keeps a blob of one piece as a string with a lifetime', async () => {
    await redis.flushdb();
    const bytes = patternOf(PIECE_BYTE_COUNT);
    const ref = await open().put(bytes);
    expect(await redis.strlen(keyOf(ref))).toBe(bytes.byteLength);
    expect(await redis.pttl(keyOf(ref))).toBeGreaterThan(lifetimeMs - 60_000);
  });

  it.each([
    ['put', (store: RedisBlobStore) => store.put(patternOf(64))],
    ['get', (store: RedisBlobStore) => store.get(blobRefOf(patternOf(64)))],
    ['has', (store: RedisBlobStore) => store.has(blobRefOf(patternOf(64)))],
  ])('renews the lifetime on %s', async (_, use) => {
    const store = open();
    const ref = await store.put(patternOf(64));
    await redis.pexpire(keyOf(ref), 30_000);
    await use(store);
    expect(await redis.pttl(keyOf(ref))).toBeGreaterThan(lifetimeMs - 60_000);
  });

  it('treats a blob with a piece missing as missing, and completes it on the next put', async () => {
    const store = open();
    const bytes = patternOf(2 * PIECE_BYTE_COUNT);
    const ref = await store.put(bytes);
    await redis.unlink(`${keyOf(ref)}:1`);
    expect(await store.has(ref)).toBe(false);
    await expect(store.get(ref)).rejects.toBeInstanceOf(BlobMissingError);
    await store.put(bytes);
    expect(Buffer.compare(await store.get(ref), bytes)).toBe(0);
  });

  it.each([
    ['changed', (key: string) => redis.set(key, Buffer.from(patternOf(64, 1)))],
    ['shorter', (key: string) => redis.set(key, Buffer.from(patternOf(63)))],
    ['wrongly typed', (key: string) => redis.multi().unlink(key).hset(key, '0', 'piece').exec()],
  ])('refuses a %s blob once and accepts the right one after that', async (_, spoil) => {
    const store = open();
    const bytes = patternOf(64);
    const ref = await store.put(bytes);
    await spoil(keyOf(ref));
    await expect(store.get(ref)).rejects.toMatchObject({ kind: 'data' });
    await expect(store.get(ref)).rejects.toBeInstanceOf(BlobMissingError);
    await store.put(bytes);
    expect(Buffer.compare(await store.get(ref), bytes)).toBe(0);
  });

  it('refuses pieces that have the bytes of the blob but not their own lengths', async () => {
    const bytes = Buffer.from(patternOf(2 * PIECE_BYTE_COUNT));
    const ref = await open().put(bytes);
    await redis.set(keyOf(ref), bytes.subarray(0, PIECE_BYTE_COUNT - 1));
    await redis.set(`${keyOf(ref)}:1`, bytes.subarray(PIECE_BYTE_COUNT - 1));
    const digest = open().get(ref).then(blobRefOf);
    await expect(digest).rejects.toMatchObject({ kind: 'data' });
  });

  it('has four pieces of a blob under way, so that other commands need not wait for all', async () => {
    const store = open({ blobByteCountMax: 6 * PIECE_BYTE_COUNT });
    const bytes = patternOf(6 * PIECE_BYTE_COUNT);
    const counts: number[] = [];
    let count = 0;
    const send = redis.sendCommand.bind(redis);
    const sending = vi.spyOn(redis, 'sendCommand').mockImplementation((command) => {
      counts.push((count += 1));
      return (send(command) as Promise<unknown>).finally(() => (count -= 1));
    });
    onTestFinished(() => sending.mockRestore());
    const ref = await store.put(bytes);
    expect(Math.max(...counts.splice(0))).toBe(4);
    expect(Buffer.compare(await store.get(ref), bytes)).toBe(0);
    expect(Math.max(...counts)).toBe(4);
  });

  it('neither finds nor deletes a blob of a claimed size beyond the limit', async () => {
    const ref = await open().put(patternOf(64));
    const store = open({ blobByteCountMax: 63 });
    expect(await store.has(ref)).toBe(false);
    await store.delete(ref);
    expect(await open().has(ref)).toBe(true);
  });

  it('refuses a blob beyond the limit, in both directions, before transferring any of it', async () => {
    const store = open({ blobByteCountMax: 63 });
    const expected = {
      kind: 'usage',
      report: {
        ...{ expected: 'at most 63 bytes', found: '64 bytes' },
        cure: expect.stringContaining('queue.blobByteCountMax') as string,
      },
    };
    await expect(store.put(patternOf(64))).rejects.toMatchObject(expected);
    await expect(store.get(blobRefOf(patternOf(64)))).rejects.toMatchObject(expected);
    expect(store.bytesWritten).toBe(0);
  });

  it('reports that Redis is out of memory', async () => {
    await redis.flushdb();
    const used = /used_memory:(\d+)/.exec(await redis.info('memory'))?.[1];
    await redis.config('SET', 'maxmemory', String(Number(used) + 1_000_000));
    onTestFinished(async () => {
      await redis.config('SET', 'maxmemory', '0');
    });
    const large = patternOf(3 * PIECE_BYTE_COUNT);
    await expect(open().put(large)).rejects.toThrow(/OOM/);
  });

  it('reports that Redis is unreachable, and works again when it is back', async () => {
    const store = open();
    const ref = await store.put(patternOf(64));
    await server.stop();
    await expect(store.get(ref)).rejects.toThrow();
    await server.restart();
    await expect.poll(() => store.has(ref).catch(() => false), { timeout: 300_000 }).toBe(true);
  });
});
