/**
 * Input blobs that jobs share, by content, so that a worker fetches dense ones once per outer step and
 * frozen ones once per run. Bounded by bytes and by number; what was used longest ago goes first.
 */

import type { BlobRef, BlobStore } from '../../shared/storage/blob-store.js';

/**
 * Of four runs that take turns the dense inputs of two outer steps and the frozen ones. Past inputs
 * are never asked for again, so without it small ones would pile up to the bound on bytes.
 */
const BLOB_COUNT_MAX = 12;

export class InputCache {
  readonly #byteCountMax: number;
  /** In order of use, the latest last. */
  readonly #bytesBySha256 = new Map<string, Uint8Array>();
  readonly #fetchBySha256 = new Map<string, Promise<Uint8Array>>();
  #byteCount = 0;

  constructor(byteCountMax: number) {
    this.#byteCountMax = byteCountMax;
  }

  get byteCount(): number {
    return this.#byteCount;
  }

  /** @throws what `BlobStore.get` throws. */
  async get(ref: BlobRef, blobs: BlobStore): Promise<Uint8Array> {
    const known = this.#bytesBySha256.get(ref.sha256);
    if (known !== undefined) {
      this.#bytesBySha256.delete(ref.sha256);
      this.#bytesBySha256.set(ref.sha256, known);
      return known;
    }
    const bytes = await this.#fetchedOnce(ref, blobs);
    if (this.#bytesBySha256.has(ref.sha256)) return bytes;
    if (bytes.byteLength > this.#byteCountMax) return bytes;
    this.#makeRoom(bytes.byteLength);
    this.#bytesBySha256.set(ref.sha256, bytes);
    this.#byteCount += bytes.byteLength;
    return bytes;
  }

  /** A job and the one ahead of it may ask for the same bytes at once. */
  async #fetchedOnce(ref: BlobRef, blobs: BlobStore): Promise<Uint8Array> {
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

  #makeRoom(byteCount: number): void {
    for (const [sha256, oldest] of this.#bytesBySha256) {
      const hasRoom = this.#byteCount + byteCount <= this.#byteCountMax;
      if (hasRoom && this.#bytesBySha256.size < BLOB_COUNT_MAX) return;
      this.#bytesBySha256.delete(sha256);
      this.#byteCount -= oldest.byteLength;
    }
  }
}
