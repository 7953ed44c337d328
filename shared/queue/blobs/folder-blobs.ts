/**
 * A job queue whose blobs lie in a folder that coordinator and workers of this machine share. The queue's own
 * blobs remain for what the folder does not take, as when it is full.
 */

import type { Clock } from '../../base/clock.js';
import type { BlobStore } from '../../storage/blob-store.js';
import { besideFolder, FolderBlobStore } from '../../storage/folder-blob-store.js';
import type { BlobLimits, JobQueue } from '../job-queue.js';

export interface BlobFolder {
  readonly path: string;
  /** Compares the digests of blobs that are read: for runs that do not trust their workers. */
  readonly isVerified: boolean;
}

/** @param folder null leaves the queue as it is. */
export function queueWithBlobFolder(
  queue: JobQueue,
  folder: BlobFolder | null,
  clock: Clock,
): JobQueue {
  if (folder === null) return queue;
  const { path, isVerified } = folder;
  const withFolder = <End extends { blobs(limits: BlobLimits): BlobStore }>(end: End): End => {
    const storeOf = memoOfLast((limits: BlobLimits) =>
      besideFolder(
        new FolderBlobStore({ folder: path, clock, isVerified, ...limits }),
        end.blobs(limits),
      ),
    );
    return { ...end, blobs: storeOf };
  };
  return {
    address: queue.address,
    openProducer: async (start) => withFolder(await queue.openProducer(start)),
    openConsumer: async (options) => withFolder(await queue.openConsumer(options)),
    openController: () => queue.openController(),
  };
}

/** A worker asks for the store with every job, nearly always with the same limits. */
function memoOfLast(storeOf: (limits: BlobLimits) => BlobStore): (limits: BlobLimits) => BlobStore {
  let last: { readonly limits: BlobLimits; readonly store: BlobStore } | null = null;
  return (limits) => {
    const isSame =
      last?.limits.lifetimeMs === limits.lifetimeMs &&
      last.limits.blobByteCountMax === limits.blobByteCountMax &&
      last.limits.large === limits.large;
    if (last === null || !isSame) last = { limits, store: storeOf(limits) };
    return last.store;
  };
}
