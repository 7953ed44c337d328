/** The blobs of a queue with an object store for large ones: the contract of blob stores, places and failures. */

import {
  blobKeyOf,
  BlobMissingError,
  blobRefOf,
  type BlobStore,
} from '../../shared/storage/blob-store.js';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../shared/base/errors.js';
import {
  ownPlaceOf,
  queueWithLargeBlobs,
  removeLargeBlobs,
} from '../../shared/queue/large-blobs.js';
import type { BlobLimits, JobQueue } from '../../shared/queue/job-queue.js';
import type { LargeBlobs } from '../../shared/queue/protocol.js';
import { QueueUnavailableError } from '../../shared/queue/queue-errors.js';
import { MemoryBlobStore } from '../../infra/simulation/memory-queue.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import { StorageConfigSchema } from '../../shared/storage/open-object-store.js';

const place: LargeBlobs = {
  ...{ address: 's3://blobs/of-runs', byteCountMin: 64 },
  storage: StorageConfigSchema.parse({}),
};
const limits: BlobLimits = { lifetimeMs: 1_000, blobByteCountMax: 1_000 };

function bytesOf(byteCount: number): Uint8Array {
  return Uint8Array.from({ length: byteCount }, (_, index) => (index * 31) % 256);
}

class Scene {
  readonly beside = new MemoryBlobStore();
  readonly objects: MemoryObjectStore;
  readonly opened: string[] = [];
  readonly #queue: JobQueue;

  constructor(objects = new MemoryObjectStore()) {
    this.objects = objects;
    const end = { blobs: () => this.beside };
    // The rest of a queue is not used.
    const queue = {
      address: 'here',
      openProducer: () => Promise.resolve(end),
      openConsumer: () => Promise.resolve(end),
    } as unknown as JobQueue;
    this.#queue = queueWithLargeBlobs(queue, ({ address }) => {
      this.opened.push(address);
      return objects;
    });
  }

  async blobs(large: LargeBlobs | null = place): Promise<BlobStore> {
    const producer = await this.#queue.openProducer('');
    return producer.blobs(large === null ? limits : { ...limits, large });
  }
}

describe('a queue with an object store for large blobs', () => {
  it('divides blobs by size, and finds and deletes each where it is', async () => {
    const scene = new Scene();
    const blobs = await scene.blobs();
    const small = await blobs.put(bytesOf(63));
    const large = await blobs.put(bytesOf(64));
    expect(await scene.objects.list('blobs/')).toEqual([blobKeyOf(large)]);
    expect(await scene.beside.has(small)).toBe(true);
    for (const ref of [small, large]) {
      expect(blobRefOf(await blobs.get(ref))).toEqual(ref);
      expect(await blobs.has(ref)).toBe(true);
      await blobs.delete(ref);
      expect(await blobs.has(ref)).toBe(false);
      await expect(blobs.get(ref)).rejects.toBeInstanceOf(BlobMissingError);
    }
  });

  it('has all blobs beside the queue where no place is named', async () => {
    const scene = new Scene();
    const ref = await (await scene.blobs(null)).put(bytesOf(100));
    expect(await scene.beside.has(ref)).toBe(true);
    expect(scene.opened).toEqual([]);
  });

  it('opens a place once, however many jobs name it', async () => {
    const scene = new Scene();
    await scene.blobs();
    await scene.blobs({ ...place, storage: StorageConfigSchema.parse({}) });
    expect(scene.opened).toEqual([place.address]);
    await scene.blobs({ ...place, address: 's3://blobs/others' });
    expect(scene.opened).toEqual([place.address, 's3://blobs/others']);
  });

  it('refuses a blob above the limit in both directions', async () => {
    const blobs = await new Scene().blobs();
    const tooLarge = { kind: 'usage', report: { found: '1001 bytes' } };
    await expect(blobs.put(bytesOf(1_001))).rejects.toMatchObject(tooLarge);
    await expect(blobs.get(blobRefOf(bytesOf(1_001)))).rejects.toMatchObject(tooLarge);
  });

  it('deletes a damaged blob, so that it can be put again', async () => {
    const scene = new Scene();
    const blobs = await scene.blobs();
    const bytes = bytesOf(100);
    const ref = await blobs.put(bytes);
    await scene.objects.put(blobKeyOf(ref), bytesOf(99), { kind: 'always' });
    await expect(blobs.get(ref)).rejects.toMatchObject({ kind: 'data' });
    expect(await blobs.has(ref)).toBe(false);
    await blobs.put(bytes, ref);
    expect(blobRefOf(await blobs.get(ref))).toEqual(ref);
  });

  it('keeps a blob that is put while its deletion is under way', async () => {
    class Slow extends MemoryObjectStore {
      override async delete(key: string): Promise<void> {
        for (let turn = 0; turn < 5; turn += 1) await setImmediate();
        await super.delete(key);
      }
    }
    const blobs = await new Scene(new Slow()).blobs();
    const bytes = bytesOf(100);
    const ref = await blobs.put(bytes);
    const deleting = blobs.delete(ref);
    await blobs.put(bytes, ref);
    await deleting;
    expect(await blobs.has(ref)).toBe(true);
  });

  it('is away, as a queue is, while its object store does not answer', async () => {
    class Away extends MemoryObjectStore {
      override put(): Promise<never> {
        return Promise.reject(
          new QianmoError({ kind: 'transient', what: 'slow down', found: 'SlowDown (HTTP 503)' }),
        );
      }
    }
    const failing = (await new Scene(new Away()).blobs()).put(bytesOf(100));
    await expect(failing).rejects.toBeInstanceOf(QueueUnavailableError);
    await expect(failing).rejects.toMatchObject({ reason: 'SlowDown (HTTP 503)' });
  });
});

describe('the place of a run', () => {
  it('lies below the shared address, and is another for another run', () => {
    const ofRun = (runId: string): string =>
      ownPlaceOf({ ...place, address: 's3://b/p/' }, runId).address;
    expect(ofRun('shop')).toMatch(/^s3:\/\/b\/p\/[0-9a-f]{32}$/);
    expect(ofRun('shop')).not.toBe(ofRun('shop-2'));
  });

  it('is emptied of blobs, and of nothing else', async () => {
    const objects = new MemoryObjectStore();
    const keys = Array.from({ length: 40 }, (_, index) => blobKeyOf(blobRefOf(bytesOf(index))));
    for (const key of [...keys, 'notes']) await objects.put(key, bytesOf(1), { kind: 'always' });
    await removeLargeBlobs(place, () => objects);
    expect(await objects.list('')).toEqual(['notes']);
  });
});
