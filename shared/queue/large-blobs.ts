/**
 * A job queue whose large blobs lie in an object store, so that the queue's server carries small ones alone.
 * A job names the place, and its worker reads and writes it with credentials of its own.
 */

import { QianmoError } from '../base/errors.js';
import { LruCache } from '../base/lru-cache.js';
import {
  BLOB_KEY_PREFIX,
  type BlobRef,
  type BlobStore,
  ObjectBlobStore,
  blobKeyOf,
  blobRefOf,
  tooLargeBlob,
} from '../storage/blob-store.js';
import type { ObjectStore } from '../storage/object-store.js';
import { openObjectStore, s3OptionsOf } from '../storage/open-object-store.js';
import { sha256Of } from '../tensors/sha256.js';
import type { BlobLimits, JobQueue } from './job-queue.js';
import type { LargeBlobs } from './protocol.js';
import { QueueUnavailableError } from './queue-errors.js';

/** A worker of a pool serves several runs, each with a place of its own. */
const OPEN_STORES_MAX = 16;
const DELETES_AT_ONCE = 16;
const RUN_FOLDER_LENGTH = 32;

type OpenObjects = (place: LargeBlobs) => ObjectStore;

/** The queue, with blobs of `limits.large.byteCountMin` bytes and more in the object store of `limits.large`. */
export function queueWithLargeBlobs(
  queue: JobQueue,
  openObjects: OpenObjects = objectsAt,
): JobQueue {
  const storeByPlace = new LruCache<string, ObjectStore>({ countMax: OPEN_STORES_MAX });
  const objectsOf = (place: LargeBlobs): ObjectStore => {
    const name = JSON.stringify([place.address, place.storage]);
    const known = storeByPlace.get(name);
    if (known !== undefined) return known;
    const opened = openObjects(place);
    storeByPlace.put(name, opened);
    return opened;
  };
  const withLarge = <End extends { blobs(limits: BlobLimits): BlobStore }>(end: End): End => {
    const besideQueue = end.blobs.bind(end);
    const blobs = (limits: BlobLimits): BlobStore => {
      const { large, ...small } = limits;
      if (large === undefined) return besideQueue(limits);
      const objects = new LargeBlobStore(objectsOf(large), limits.blobByteCountMax);
      return bySize(objects, besideQueue(small), large.byteCountMin);
    };
    // A copy would lack the methods of a class.
    return Object.assign(end, { blobs });
  };
  return {
    address: queue.address,
    openProducer: async (start) => withLarge(await queue.openProducer(start)),
    openConsumer: async (options) => withLarge(await queue.openConsumer(options)),
    openController: () => queue.openController(),
  };
}

/** The place of a run's blobs below an address that several runs share. */
export function ownPlaceOf(place: LargeBlobs, runId: string): LargeBlobs {
  const folder = sha256Of(Buffer.from(runId)).slice(0, RUN_FOLDER_LENGTH);
  return { ...place, address: `${place.address.replace(/\/+$/, '')}/${folder}` };
}

/** Deletes all blobs of a place: an earlier start of the run left them when it was killed. */
export async function removeLargeBlobs(
  place: LargeBlobs,
  openObjects: OpenObjects = objectsAt,
): Promise<void> {
  const objects = openObjects(place);
  const keys = await objects.list(BLOB_KEY_PREFIX);
  for (let start = 0; start < keys.length; start += DELETES_AT_ONCE)
    await Promise.all(keys.slice(start, start + DELETES_AT_ONCE).map((key) => objects.delete(key)));
}

function objectsAt({ address, storage }: LargeBlobs): ObjectStore {
  return openObjectStore(address, s3OptionsOf(storage));
}

/** Blobs of an object store that fails as a queue does, so that its users wait until it is back. */
class LargeBlobStore implements BlobStore {
  readonly #objects: ObjectStore;
  readonly #blobs: ObjectBlobStore;
  readonly #byteCountMax: number;
  /** Deletions under way, by digest: a put of the same bytes comes after them. */
  readonly #deleting = new Map<string, Promise<void>>();

  constructor(objects: ObjectStore, byteCountMax: number) {
    this.#objects = objects;
    this.#blobs = new ObjectBlobStore(objects);
    this.#byteCountMax = byteCountMax;
  }

  async put(bytes: Uint8Array, ref = blobRefOf(bytes)): Promise<BlobRef> {
    this.#refuseTooLarge(ref);
    await this.#deleting.get(ref.sha256);
    return this.#patiently(() => this.#blobs.put(bytes, ref));
  }

  async get(ref: BlobRef): Promise<Uint8Array> {
    this.#refuseTooLarge(ref);
    try {
      return await this.#patiently(() => this.#blobs.get(ref));
    } catch (error) {
      // A damaged blob is deleted, so that the owner of the bytes can put them again.
      if (error instanceof QianmoError && error.kind === 'data')
        await this.#blobs.delete(ref).catch(() => undefined);
      throw error;
    }
  }

  has(ref: BlobRef): Promise<boolean> {
    return this.#patiently(() => this.#blobs.has(ref));
  }

  async delete(ref: BlobRef): Promise<void> {
    const deleting = this.#patiently(() => this.#blobs.delete(ref));
    const ended = deleting.then(
      () => undefined,
      () => undefined,
    );
    this.#deleting.set(ref.sha256, ended);
    await ended;
    if (this.#deleting.get(ref.sha256) === ended) this.#deleting.delete(ref.sha256);
    await deleting;
  }

  async #patiently<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof QianmoError) || error.kind !== 'transient') throw error;
      const { cure, found = error.message } = error.report;
      throw new QueueUnavailableError({
        what: 'the object store of large blobs does not answer',
        where: this.#objects.address,
        found,
        ...(cure === undefined ? {} : { cure }),
        cause: error,
      });
    }
  }

  #refuseTooLarge(ref: BlobRef): void {
    if (ref.byteCount > this.#byteCountMax)
      throw tooLargeBlob(ref, `${this.#objects.address}/${blobKeyOf(ref)}`, this.#byteCountMax);
  }
}

function bySize(large: BlobStore, small: BlobStore, byteCountMin: number): BlobStore {
  const storeOf = ({ byteCount }: Pick<BlobRef, 'byteCount'>): BlobStore =>
    byteCount < byteCountMin ? small : large;
  return {
    put: (bytes, ref) => storeOf({ byteCount: bytes.byteLength }).put(bytes, ref),
    get: (ref) => storeOf(ref).get(ref),
    has: (ref) => storeOf(ref).has(ref),
    delete: (ref) => storeOf(ref).delete(ref),
  };
}
