/**
 * Inputs and outputs that the compute process reads and writes itself, in the folder that its parent and the
 * coordinator share: they cross no channel, and the parent never holds them.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { CarriedBytes } from '../../../shared/queue/job-executor.js';
import type { Job } from '../../../shared/queue/protocol.js';
import { BlobMissingError } from '../../../shared/storage/blob-store.js';
import {
  FOLDER_BLOB_BYTE_COUNT_MIN,
  FolderBlobStore,
} from '../../../shared/storage/folder-blob-store.js';

type BlobTerms = Pick<Job, 'blobLifetimeMs'>;

export class FolderBytes {
  readonly #folder: string | null;
  readonly #clock: Clock;

  /** @param folder null where all bytes cross the channel. */
  constructor(folder: string | null, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
  }

  /** @throws QianmoError `transient` when the blob is gone: the job is not wanted any more, or is sent again. */
  read(carried: CarriedBytes, terms: BlobTerms): Uint8Array {
    if (carried instanceof Uint8Array) return carried;
    const store = this.#storeFor(terms);
    if (store === null) throw new Error('an input lies in a folder that was not named');
    try {
      return store.read(carried.stored);
    } catch (cause) {
      if (!(cause instanceof BlobMissingError)) throw cause;
      throw new QianmoError({
        kind: 'transient',
        what: 'an input of a job is not there any more',
        where: cause.message,
        cause,
      });
    }
  }

  /** Returns the bytes themselves where they are few, or the folder does not take them. */
  written(output: Uint8Array, terms: BlobTerms): CarriedBytes {
    const store = output.byteLength < FOLDER_BLOB_BYTE_COUNT_MIN ? null : this.#storeFor(terms);
    if (store === null) return output;
    try {
      return { stored: store.write(output) };
    } catch {
      // A full folder: the parent puts the bytes beside the queue.
      return output;
    }
  }

  #storeFor({ blobLifetimeMs: lifetimeMs }: BlobTerms): FolderBlobStore | null {
    if (this.#folder === null) return null;
    return new FolderBlobStore({
      ...{ folder: this.#folder, clock: this.#clock, lifetimeMs, isVerified: false },
      // The coordinator refuses what is larger than it allows.
      blobByteCountMax: Number.MAX_SAFE_INTEGER,
    });
  }
}

/** An input of several jobs, read for the first of them. */
export class SharedInput {
  #carried: CarriedBytes;

  constructor(carried: CarriedBytes) {
    this.#carried = carried;
  }

  read(from: FolderBytes, terms: BlobTerms): Uint8Array {
    const bytes = from.read(this.#carried, terms);
    this.#carried = bytes;
    return bytes;
  }
}
