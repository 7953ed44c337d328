/**
 * Tracks which input blobs are in use, and says which of them to delete. It does not wait for a store,
 * so that a call that is repeated after an outage counts no user twice. Jobs may share a blob (the dense variables of an outer step,
 * equal row packs), so a blob is deleted when its last user releases it. Frozen inputs, which all
 * jobs of a run share, are held between outer steps.
 */

import { LruCache } from '../../../shared/base/lru-cache.js';
import { blobRefOf, type BlobRef } from '../../../shared/storage/blob-store.js';

/**
 * The number of frozen blobs that may be held at once with few trainings; otherwise it is that of the trainings. A dispatcher can
 * outlive a run, as in a sweep.
 */
const HELD_COUNT_MIN = 2;

export class BlobLeases {
  readonly #userCountBySha256 = new Map<string, number>();
  readonly #held: LruCache<Uint8Array, Uint8Array>;
  /** Each array is hashed once, however many jobs use it. */
  readonly #refByBytes = new WeakMap<Uint8Array, BlobRef>();
  /** The puts under way, by digest. */
  readonly #puts = new Map<string, Promise<void>>();

  /** @param trainingsAtOnce how many trainings share the leases, each with frozen inputs of its own. */
  constructor(trainingsAtOnce = 1) {
    this.#held = new LruCache({ countMax: Math.max(HELD_COUNT_MIN, trainingsAtOnce) });
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

  /** Lets later users wait for the put of the first one. */
  notePut(bytes: Uint8Array, put: Promise<unknown>): void {
    const { sha256 } = this.refOf(bytes);
    const noted = put.then(
      () => void this.#puts.delete(sha256),
      (error: unknown) => {
        this.#puts.delete(sha256);
        throw error;
      },
    );
    noted.catch(() => undefined);
    this.#puts.set(sha256, noted);
  }

  /** The put of the bytes that is under way, if there is one. */
  putOf(bytes: Uint8Array): Promise<void> | undefined {
    return this.#puts.get(this.refOf(bytes).sha256);
  }

  /**
   * Registers one more user of bytes that a job uses, until `releaseHeld`, or until newer ones are held.
   *
   * @returns the older blobs without a user, which the caller deletes.
   */
  hold(bytes: Uint8Array): readonly BlobRef[] {
    if (this.#held.get(bytes) !== undefined) return [];
    this.lease(bytes);
    return this.#held.put(bytes, bytes).flatMap((evicted) => this.release(evicted));
  }

  /** Returns the blobs without a user, which the caller deletes. */
  releaseHeld(): BlobRef[] {
    return [...this.#held.clear()].flatMap((bytes) => this.release(bytes));
  }

  isLeased(ref: BlobRef): boolean {
    return this.#userCountBySha256.has(ref.sha256);
  }

  /** Removes a user. Returns the blob if it was the last one; the caller deletes it. */
  release(bytes: Uint8Array): BlobRef[] {
    const ref = this.refOf(bytes);
    const userCount = this.#userCountBySha256.get(ref.sha256) ?? 0;
    if (userCount > 1) {
      this.#userCountBySha256.set(ref.sha256, userCount - 1);
      return [];
    }
    this.#userCountBySha256.delete(ref.sha256);
    return [ref];
  }
}
