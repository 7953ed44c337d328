/**
 * Removes checkpoints that are no longer wanted: the manifest first, then the blobs that only it
 * named. Touches nothing that checkpoints did not write.
 */

import { QianmoError } from '../../shared/errors.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import { blobKeyOf } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  MANIFEST_KEY_PREFIX,
  blobsOf,
  outerStepOfKey,
  parseManifest,
} from './checkpoint-manifest.js';

/**
 * Keeps `latestKey` and the newest before it, `kept` in all. Manifests of later outer steps were left
 * by an earlier start of the run that was given up: they go too.
 *
 * A process killed between manifest and blobs leaves blobs behind; they cost space and nothing else.
 */
export async function removeOldCheckpoints(
  store: ObjectStore,
  latestKey: string,
  kept: number,
  damagedKeys: ReadonlySet<string>,
): Promise<void> {
  const latestStep = outerStepOfKey(latestKey) ?? 0;
  const keys = (await store.list(MANIFEST_KEY_PREFIX)).filter(
    (key) => outerStepOfKey(key) !== null,
  );
  const earlier = keys.filter(
    (key) => key !== latestKey && !damagedKeys.has(key) && (outerStepOfKey(key) ?? 0) <= latestStep,
  );
  const keptKeys = new Set([latestKey, ...earlier.reverse().slice(0, kept - 1)]);
  const doomedKeys = keys.filter((key) => !keptKeys.has(key));
  if (doomedKeys.length === 0) return;

  const wanted = new Set<string>();
  for (const key of keptKeys)
    for (const blob of await blobsNamedBy(store, key)) wanted.add(blob.sha256);
  const unwanted = new Map<string, BlobRef>();
  for (const key of doomedKeys) {
    for (const blob of await blobsNamedBy(store, key))
      if (!wanted.has(blob.sha256)) unwanted.set(blob.sha256, blob);
    await store.delete(key);
  }
  for (const blob of unwanted.values()) await store.delete(blobKeyOf(blob));
}

/** None when the manifest is damaged or gone: what it named is not known. */
async function blobsNamedBy(store: ObjectStore, key: string): Promise<BlobRef[]> {
  const object = await store.get(key);
  if (object === null) return [];
  try {
    return blobsOf(parseManifest(object.bytes, `${store.address}/${key}`));
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return [];
    throw cause;
  }
}
