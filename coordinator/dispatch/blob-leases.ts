/**
 * Which input blobs are in use. Jobs may share a blob (the dense variables of an outer step, equal
 * row packs), so one is deleted when its last user lets go. What all jobs of a run share is held
 * between its outer steps.
 */

import { LruCache } from '../../shared/base/lru-cache.js';
import { blobRefOf, type BlobRef, type BlobStore } from '../../shared/storage/blob-store.js';

/** Frozen blobs held at once: dispatchers outlive runs, as in a sweep. */
const HELD_COUNT_MAX = 2;

export class BlobLeases {
  readonly #blobs: BlobStore;
  readonly #userCountBySha256 = new Map<string, number>();
  readonly #held = new LruCache<Uint8Array, Uint8Array>({ countMax: HELD_COUNT_MAX });
  /** Hashing is once per array, not per job that uses it. */
  readonly #refByBytes = new WeakMap<Uint8Array, BlobRef>();

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  refOf(bytes: Uint8Array): BlobRef {
    const known = this.#refByBytes.get(bytes);
    if (known !== undefined) return known;
    const ref = blobRefOf(bytes);
    this.#refByBytes.set(bytes, ref);
    return ref;
  }

  /** Registers a user; true for the first, who has to put the bytes. */
  lease(bytes: Uint8Array): boolean {
    const { sha256 } = this.refOf(bytes);
    const userCount = this.#userCountBySha256.get(sha256) ?? 0;
    this.#userCountBySha256.set(sha256, userCount + 1);
    return userCount === 0;
  }

  /** Registers as a user until `releaseHeld`, or until others are held; true as of `lease`. */
  async hold(bytes: Uint8Array): Promise<boolean> {
    if (this.#held.get(bytes) !== undefined) return false;
    const isFirst = this.lease(bytes);
    for (const evicted of this.#held.put(bytes, bytes)) await this.release(evicted);
    return isFirst;
  }

  async releaseHeld(): Promise<void> {
    for (const bytes of this.#held.clear()) await this.release(bytes);
  }

  isLeased(ref: BlobRef): boolean {
    return this.#userCountBySha256.has(ref.sha256);
  }

  /** Puts again what Redis has lost; the users stay the same. */
  async restore(bytes: Uint8Array): Promise<void> {
    const ref = this.refOf(bytes);
    if (!(await this.#blobs.has(ref))) await this.#blobs.put(bytes, ref);
  }

  async release(bytes: Uint8Array): Promise<void> {
    const ref = this.refOf(bytes);
    const userCount = this.#userCountBySha256.get(ref.sha256) ?? 0;
    if (userCount > 1) {
      this.#userCountBySha256.set(ref.sha256, userCount - 1);
      return;
    }
    this.#userCountBySha256.delete(ref.sha256);
    await this.#blobs.delete(ref);
  }
}
