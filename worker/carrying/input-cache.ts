/**
 * Caches input blobs that jobs share, by content. A worker fetches dense inputs once per outer step
 * and frozen inputs once per run.
 */

import { LruCache } from '../../shared/base/lru-cache.js';
import type { BlobRef, BlobStore } from '../../shared/storage/blob-store.js';

/**
 * Room for four runs that take turns: the dense inputs of two outer steps and the frozen inputs of
 * each. Past inputs are never asked for again. Without this bound, small ones would pile up to the
 * bound on bytes.
 */
const BLOB_COUNT_MAX = 12;

export class InputCache {
  readonly #bytesBySha256: LruCache<string, Uint8Array>;
  readonly #fetchBySha256 = new Map<string, Promise<Uint8Array>>();

  constructor(byteCountMax: number) {
    this.#bytesBySha256 = new LruCache({ byteCountMax, countMax: BLOB_COUNT_MAX });
  }

  get byteCount(): number {
    return this.#bytesBySha256.byteCount;
  }

  /** @throws what `BlobStore.get` throws. */
  async get(ref: BlobRef, blobs: Pick<BlobStore, 'get'>): Promise<Uint8Array> {
    const known = this.#bytesBySha256.get(ref.sha256);
    if (known !== undefined) return known;
    const bytes = await this.#fetchedOnce(ref, blobs);
    this.#bytesBySha256.put(ref.sha256, bytes, bytes.byteLength);
    return bytes;
  }

  /** The job under way and the one held ahead may ask for the same bytes at once. */
  async #fetchedOnce(ref: BlobRef, blobs: Pick<BlobStore, 'get'>): Promise<Uint8Array> {
    const underWay = this.#fetchBySha256.get(ref.sha256);
    if (underWay !== undefined) return underWay;
    const fetched = blobs.get(ref);
    this.#fetchBySha256.set(ref.sha256, fetched);
    try {
      return await fetched;
    } finally {
      this.#fetchBySha256.delete(ref.sha256);
    }
  }
}
