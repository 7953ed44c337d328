/**
 * Content-addressed blobs: large values travel by reference and are verified on arrival.
 * A put is idempotent; a get returns exactly the bytes the reference names or throws.
 */

import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import type { Durability, ObjectStore } from './object-store.js';
import { sha256Of } from '../tensors/sha256.js';

export const BlobRefSchema = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  byteCount: z.int().nonnegative(),
});
export type BlobRef = z.infer<typeof BlobRefSchema>;

export interface BlobStore {
  /** @param ref the reference of these bytes, if the caller has it; hashing costs more than a copy. */
  put(bytes: Uint8Array, ref?: BlobRef): Promise<BlobRef>;
  /**
   * @throws BlobMissingError if the blob does not exist, or not any more.
   * @throws QianmoError of kind `data` if the bytes do not match the reference.
   */
  get(ref: BlobRef): Promise<Uint8Array>;
  has(ref: BlobRef): Promise<boolean>;
  /** A blob that is not there is no error: an output is deleted by each result that names it. */
  delete(ref: BlobRef): Promise<void>;
}

/** An expected failure if blobs are short-lived. The owner of the bytes can put them again. */
export class BlobMissingError extends Error {
  readonly ref: BlobRef;
  constructor(ref: BlobRef) {
    super(`blob ${ref.sha256.slice(0, 12)} of ${ref.byteCount} bytes is not there`);
    this.name = 'BlobMissingError';
    this.ref = ref;
  }
}

export function blobRefOf(bytes: Uint8Array): BlobRef {
  return { sha256: sha256Of(bytes), byteCount: bytes.byteLength };
}

/** Returns the bytes if they match the reference. */
export function verifiedBlob(bytes: Uint8Array, ref: BlobRef, where: string): Uint8Array {
  assertDigest(blobRefOf(bytes), ref, where);
  return bytes;
}

/** @throws QianmoError of kind `data` if what was found is another blob. */
export function assertDigest(found: BlobRef, ref: BlobRef, where: string): void {
  if (found.sha256 === ref.sha256 && found.byteCount === ref.byteCount) return;
  throw errorOf('data', 'a blob does not match its reference', {
    where,
    expected: `${ref.byteCount} bytes with sha256 ${ref.sha256}`,
    found: `${found.byteCount} bytes with sha256 ${found.sha256}`,
    cure: 'the object was truncated or overwritten: restore it, or start from another checkpoint',
  });
}

/** The error of a blob that is refused for its size. */
export function tooLargeBlob(ref: BlobRef, where: string, blobByteCountMax: number): QianmoError {
  return errorOf('usage', 'a blob is larger than the queue may carry', {
    where,
    expected: `at most ${blobByteCountMax} bytes`,
    found: `${ref.byteCount} bytes`,
    cure: 'lower training.microBatchRowsMax, or raise queue.blobByteCountMax',
  });
}

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
    throw errorOf('environment', 'the object store does not return what was written', {
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
