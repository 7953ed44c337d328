/**
 * Blobs as files of a folder in the memory of this machine (tmpfs), for coordinator and workers that share
 * it. A blob is copied twice on its way, while one in Redis crosses four sockets.
 *
 * The folder belongs to the user who runs both, so a blob is hashed once, by its writer. A reader compares
 * the number of bytes, and the digest only where it is asked to. Calls block this process for the time of a copy.
 */

import {
  closeSync,
  fstatSync,
  futimesSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { QianmoError } from '../base/errors.js';
import { systemCodeOf } from '../base/system-errors.js';
import {
  BlobMissingError,
  blobRefOf,
  sketchedRefOf,
  tooLargeBlob,
  verifiedBlob,
  type BlobRef,
  type BlobStore,
} from './blob-store.js';
import { SpareBuffers } from './spare-buffers.js';
import { SpareFiles } from './spare-files.js';

const SUFFIX = '.blob';
/** Below, a blob is hardly more than its name. Those above save a server, and both its clients, a command for each use. */
export const FOLDER_BLOB_BYTE_COUNT_MIN = 1024;
/** Blobs that nobody deletes are rare: a process was killed between a put and its record. */
const SWEEP_INTERVAL_MS = 600_000;
const MS_PER_SECOND = 1_000;
/** Writers of the same blob may replace its file while it is read, each of them once. */
const READS_MAX = 8;

/** Sets the files that this process writes apart from each other. */
let writtenCount = 0;

interface FolderBlobStoreOptions {
  /** The folder exists, and only this user can read it. */
  readonly folder: string;
  readonly clock: Clock;
  /** How long a blob outlives its last put or get. */
  readonly lifetimeMs: number;
  /** Larger blobs are refused. */
  readonly blobByteCountMax: number;
  /** Compares digests when blobs are read. */
  readonly isVerified: boolean;
}

export class FolderBlobStore implements BlobStore {
  readonly #options: FolderBlobStoreOptions;
  /** Files of deleted blobs. A reader that comes late finds no name, or bytes for a result that nobody waits for. */
  readonly #spares: SpareFiles;
  readonly #buffers = new SpareBuffers();
  #sweepAtMs: number;
  bytesWritten = 0;
  bytesRead = 0;

  constructor(options: FolderBlobStoreOptions) {
    this.#options = options;
    this.#spares = new SpareFiles(options.folder, SUFFIX);
    this.#sweepAtMs = options.clock.monotonicMs() + SWEEP_INTERVAL_MS;
  }

  // Async, so that every failure is a rejection.
  // eslint-disable-next-line @typescript-eslint/require-await
  async put(bytes: Uint8Array, ref?: BlobRef): Promise<BlobRef> {
    return this.write(bytes, ref);
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async get(ref: BlobRef): Promise<Uint8Array> {
    return this.read(ref);
  }

  /** @throws as `put` rejects. */
  write(bytes: Uint8Array, ref = blobRefOf(bytes)): BlobRef {
    this.#refuseTooLarge(ref);
    this.#sweepWhenDue();
    if (this.holds(ref)) return ref;
    const path = this.#pathOf(ref);
    if (!this.#spares.write(path, bytes)) this.#writeNew(path, bytes);
    this.bytesWritten += ref.byteCount;
    return ref;
  }

  /** @throws as `get` rejects. */
  read(ref: BlobRef): Uint8Array {
    this.#refuseTooLarge(ref);
    const path = this.#pathOf(ref);
    const bytes = this.#readWhole(path, ref);
    this.bytesRead += bytes.byteLength;
    try {
      const isRight = !this.#options.isVerified && bytes.byteLength === ref.byteCount;
      return isRight ? bytes : verifiedBlob(bytes, ref, path);
    } catch (spoilt) {
      // A damaged blob is deleted, so that the owner of the bytes can put them again.
      removeFile(path);
      throw spoilt;
    }
  }

  /** The name of bytes that the caller alone writes. */
  refOf(bytes: Uint8Array): BlobRef {
    return this.#options.isVerified ? blobRefOf(bytes) : sketchedRefOf(bytes);
  }

  has(ref: BlobRef): Promise<boolean> {
    return Promise.resolve(this.holds(ref));
  }

  /** Renews the lifetime of a blob that is there. */
  holds(ref: BlobRef): boolean {
    const path = this.#pathOf(ref);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.size !== ref.byteCount) return false;
    this.#renew(path, found.mtimeMs);
    return true;
  }

  delete(ref: BlobRef): Promise<void> {
    this.remove(ref);
    return Promise.resolve();
  }

  /** Returns whether the blob was there. */
  remove(ref: BlobRef): boolean {
    const path = this.#pathOf(ref);
    return this.#spares.keep(path, ref.byteCount) || removeFile(path);
  }

  takeBack(bytes: Uint8Array): void {
    this.#buffers.takeBack(bytes);
  }

  /**
   * Two workers may have the same bytes at once, so a file has its name only when it is whole, and is never removed for
   * another one with the same bytes.
   */
  #writeNew(path: string, bytes: Uint8Array): void {
    writtenCount += 1;
    const unnamed = join(this.#options.folder, `new-${process.pid}-${writtenCount}${SUFFIX}`);
    try {
      writeWhole(unnamed, bytes);
    } catch (error) {
      // The folder may be full of spare files.
      if (!this.#spares.clear()) throw error;
      writeWhole(unnamed, bytes);
    }
    renameSync(unnamed, path);
  }

  #pathOf(ref: BlobRef): string {
    return join(this.#options.folder, `${ref.sha256}${SUFFIX}`);
  }

  /** A use in the first quarter of a lifetime does not need to be written down. */
  #renew(file: string | number, usedMs: number): void {
    const { clock, lifetimeMs } = this.#options;
    const nowMs = clock.epochMs();
    if (nowMs - usedMs < lifetimeMs / 4) return;
    const nowSeconds = nowMs / MS_PER_SECOND;
    if (typeof file === 'number') futimesSync(file, nowSeconds, nowSeconds);
    else utimesSync(file, nowSeconds, nowSeconds);
  }

  #readWhole(path: string, ref: BlobRef): Uint8Array {
    for (let readCount = 0; readCount < READS_MAX; readCount += 1) {
      const bytes = this.#readNamed(path, ref);
      if (bytes !== null) return bytes;
    }
    throw new BlobMissingError(ref);
  }

  /**
   * Reads one byte more than the reference tells, so that a longer file is noticed. Null if another file has the name by
   * now: the one that was read may have been deleted meanwhile, and written again for another blob.
   */
  #readNamed(path: string, ref: BlobRef): Uint8Array | null {
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') throw new BlobMissingError(ref);
      throw error;
    }
    try {
      const { size, mtimeMs, ino } = fstatSync(file);
      this.#renew(file, mtimeMs);
      const bytes = this.#buffers.lend(Math.min(size, ref.byteCount + 1));
      let byteCount = 0;
      while (byteCount < bytes.byteLength) {
        const readCount = readSync(file, bytes, byteCount, bytes.byteLength - byteCount, byteCount);
        if (readCount === 0) break;
        byteCount += readCount;
      }
      if (statSync(path, { throwIfNoEntry: false })?.ino === ino)
        return bytes.subarray(0, byteCount);
      this.#buffers.takeBack(bytes);
      return null;
    } finally {
      closeSync(file);
    }
  }

  #sweepWhenDue(): void {
    const { clock, folder, lifetimeMs } = this.#options;
    if (clock.monotonicMs() < this.#sweepAtMs) return;
    this.#sweepAtMs = clock.monotonicMs() + SWEEP_INTERVAL_MS;
    const oldestMs = clock.epochMs() - lifetimeMs;
    for (const name of readdirSync(folder)) {
      if (!name.includes(SUFFIX)) continue;
      const path = join(folder, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found !== undefined && found.mtimeMs < oldestMs) removeFile(path);
    }
  }

  #refuseTooLarge(ref: BlobRef): void {
    const { blobByteCountMax } = this.#options;
    if (ref.byteCount > blobByteCountMax)
      throw tooLargeBlob(ref, this.#pathOf(ref), blobByteCountMax);
  }
}

/**
 * The blobs of a folder, and of a store beside it for small ones and for what the folder does not take or
 * have.
 */
export function besideFolder(
  folder: FolderBlobStore,
  beside: BlobStore,
  byteCountMin = FOLDER_BLOB_BYTE_COUNT_MIN,
): BlobStore {
  const isSmall = (byteCount: number): boolean => byteCount < byteCountMin;
  return {
    put: async (bytes, ref) => {
      if (isSmall(bytes.byteLength)) return beside.put(bytes, ref);
      try {
        return await folder.put(bytes, ref);
      } catch (error) {
        if (error instanceof QianmoError) throw error;
        return beside.put(bytes, ref);
      }
    },
    get: async (ref) => {
      if (isSmall(ref.byteCount)) return beside.get(ref);
      try {
        return await folder.get(ref);
      } catch (error) {
        if (error instanceof QianmoError) throw error;
        return beside.get(ref);
      }
    },
    refOf: (bytes) => (isSmall(bytes.byteLength) ? blobRefOf(bytes) : folder.refOf(bytes)),
    stored: (ref) => (!isSmall(ref.byteCount) && folder.holds(ref) ? { stored: ref } : null),
    takeBack: (bytes) => folder.takeBack(bytes),
    has: async (ref) =>
      (!isSmall(ref.byteCount) && (await folder.has(ref))) || (await beside.has(ref)),
    delete: async (ref) => {
      if (isSmall(ref.byteCount) || !folder.remove(ref)) await beside.delete(ref);
    },
  };
}

function writeWhole(path: string, bytes: Uint8Array): void {
  const file = openSync(path, 'w', 0o600);
  try {
    let byteCount = 0;
    while (byteCount < bytes.byteLength) byteCount += writeSync(file, bytes, byteCount);
  } catch (error) {
    removeFile(path);
    throw error;
  } finally {
    closeSync(file);
  }
}

/** Returns whether the file was there. */
function removeFile(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch {
    return false;
  }
}
