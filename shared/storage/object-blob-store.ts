/** Blobs over an object store, under `blobs/SHA256`: never overwritten, verified when read. */

import { QianmoError } from '../base/errors.js';
import {
  BlobMissingError,
  blobRefOf,
  verifiedBlob,
  type BlobRef,
  type BlobStore,
} from './blob-store.js';
import type { Durability, ObjectStore } from './object-store.js';

export const BLOB_KEY_PREFIX = 'blobs/';

export function blobKeyOf(ref: BlobRef): string {
  return `${BLOB_KEY_PREFIX}${ref.sha256}`;
}

export class ObjectBlobStore implements BlobStore {
  readonly #objects: ObjectStore;
  readonly #durability: Durability;
  bytesWritten = 0;
  bytesRead = 0;

  /** @param durability of blobs that are put; with `at-flush`, the caller flushes the objects. */
  constructor(objects: ObjectStore, durability: Durability = 'now') {
    this.#objects = objects;
    this.#durability = durability;
  }

  async put(bytes: Uint8Array, ref = blobRefOf(bytes)): Promise<BlobRef> {
    const etag = await this.#objects.put(
      blobKeyOf(ref),
      bytes,
      { kind: 'absent' },
      this.#durability,
    );
    if (etag !== null) this.bytesWritten += ref.byteCount;
    return ref;
  }

  /**
   * Puts the blob and reads it back. Afterwards the blob is stored under its key, even if something
   * else was there before.
   */
  async putVerified(bytes: Uint8Array, ref = blobRefOf(bytes)): Promise<BlobRef> {
    await this.put(bytes, ref);
    if (await this.#isSound(ref)) return ref;
    await this.#objects.put(blobKeyOf(ref), bytes, { kind: 'always' }, this.#durability);
    this.bytesWritten += ref.byteCount;
    if (await this.#isSound(ref)) return ref;
    throw new QianmoError({
      kind: 'environment',
      what: 'the object store does not return what was written',
      where: `${this.#objects.address}/${blobKeyOf(ref)}`,
      expected: `${ref.byteCount} bytes with sha256 ${ref.sha256}`,
      cure: 'check whether something else deletes or changes objects there, and whether the disk is failing',
    });
  }

  async get(ref: BlobRef): Promise<Uint8Array> {
    const key = blobKeyOf(ref);
    const object = await this.#objects.get(key, ref.byteCount);
    if (object === null) throw new BlobMissingError(ref);
    this.bytesRead += object.bytes.byteLength;
    return verifiedBlob(object.bytes, ref, `${this.#objects.address}/${key}`);
  }

  async has(ref: BlobRef): Promise<boolean> {
    const key = blobKeyOf(ref);
    return (await this.#objects.list(key)).includes(key);
  }

  async delete(ref: BlobRef): Promise<void> {
    await this.#objects.delete(blobKeyOf(ref));
  }

  async #isSound(ref: BlobRef): Promise<boolean> {
    const object = await this.#objects.get(blobKeyOf(ref));
    if (object === null) return false;
    this.bytesRead += object.bytes.byteLength;
    return blobRefOf(object.bytes).sha256 === ref.sha256;
  }
}
