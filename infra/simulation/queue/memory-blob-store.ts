/** Blobs in the memory of this process, for runs without a queue and for tests. */

import {
  BlobMissingError,
  blobRefOf,
  verifiedBlob,
  type BlobRef,
  type BlobStore,
} from '../../../shared/storage/blob-store.js';

export class MemoryBlobStore implements BlobStore {
  readonly #blobs = new Map<string, Uint8Array>();
  bytesWritten = 0;
  bytesRead = 0;

  get blobCount(): number {
    return this.#blobs.size;
  }

  put(bytes: Uint8Array, ref = blobRefOf(bytes)): Promise<BlobRef> {
    if (!this.#blobs.has(ref.sha256)) {
      this.#blobs.set(ref.sha256, new Uint8Array(bytes));
      this.bytesWritten += ref.byteCount;
    }
    return Promise.resolve(ref);
  }

  // Async, so that every failure is a rejection.
  // eslint-disable-next-line @typescript-eslint/require-await
  async get(ref: BlobRef): Promise<Uint8Array> {
    const bytes = this.#blobs.get(ref.sha256);
    if (bytes === undefined) throw new BlobMissingError(ref);
    this.bytesRead += bytes.byteLength;
    return verifiedBlob(new Uint8Array(bytes), ref, `memory blob ${ref.sha256}`);
  }

  has(ref: BlobRef): Promise<boolean> {
    return Promise.resolve(this.#blobs.has(ref.sha256));
  }

  delete(ref: BlobRef): Promise<void> {
    this.#blobs.delete(ref.sha256);
    return Promise.resolve();
  }
}
