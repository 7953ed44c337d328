/**
 * Tracks which input blobs are in use. Jobs may share a blob (the dense variables of an outer step,
 * equal row packs), so a blob is deleted when its last user releases it. Frozen inputs, which all
 * jobs of a run share, are held between outer steps.
 */

import { LruCache } from '../../shared/base/lru-cache.js';
import { blobRefOf, type BlobRef, type BlobStore } from '../../shared/storage/blob-store.js';

/** The number of frozen blobs held at once. A dispatcher can outlive a run, as in a sweep. */
const HELD_COUNT_MAX = 2;

export class BlobLeases {
  readonly #blobs: BlobStore;
  readonly #userCountBySha256 = new Map<string, number>();
  readonly #held = new LruCache<Uint8Array, Uint8Array>({ countMax: HELD_COUNT_MAX });
  /** Each array is hashed once, however many jobs use it. */
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

  /** Registers a user. Returns true for the first one, which must put the bytes. */
  lease(bytes: Uint8Array): boolean {
    const { sha256 } = this.refOf(bytes);
    const userCount = this.#userCountBySha256.get(sha256) ?? 0;
    this.#userCountBySha256.set(sha256, userCount + 1);
    return userCount === 0;
  }

  /**
   * Registers a user until `releaseHeld`, or until newer blobs are held. Returns the same as
   * `lease`.
   */
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

  /** Puts the blob again if it was lost. Its users stay registered. */
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
