/**
 * Removes checkpoints that are not wanted any more: the manifest first, then the blobs that only it named.
 * Touches only what checkpoints have written.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import { blobKeyOf } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  MANIFEST_KEY_PREFIX,
  blobsOf,
  outerStepOfKey,
  parseManifest,
} from './checkpoint-manifest.js';

interface Retention {
  /** The checkpoint that this coordinator has just written, which `latest.json` names. */
  readonly latestKey: string;
  /** Checkpoints kept, the latest included. */
  readonly kept: number;
  /**
   * Manifests that existed when this coordinator began, and its own. Any other may belong to a
   * coordinator that has taken over since and may be about to become the latest.
   */
  readonly knownKeys: ReadonlySet<string>;
  /** Manifests that could not be read. */
  readonly damagedKeys: ReadonlySet<string>;
}

/**
 * Keeps the latest and the newest of earlier outer steps. Others of the same or a later step were left by
 * failed attempts or by an earlier start of the run, and are removed too.
 *
 * A process killed between manifest and blobs leaves blobs behind, which only cost space.
 */
export async function removeOldCheckpoints(
  store: ObjectStore,
  { latestKey, kept, knownKeys, damagedKeys }: Retention,
): Promise<void> {
  const latestStep = outerStepOfKey(latestKey) ?? 0;
  const keys = await store.list(MANIFEST_KEY_PREFIX);
  const known = keys.filter((key) => knownKeys.has(key) && outerStepOfKey(key) !== null);
  const earlier = known.filter(
    (key) => !damagedKeys.has(key) && (outerStepOfKey(key) ?? 0) < latestStep,
  );
  const keptKeys = new Set([latestKey, ...earlier.reverse().slice(0, kept - 1)]);
  const doomedKeys = known.filter((key) => !keptKeys.has(key));
  if (doomedKeys.length === 0) return;

  const wanted = new Set<string>();
  for (const key of keys.filter((listed) => !doomedKeys.includes(listed)))
    for (const blob of await blobsNamedBy(store, key)) wanted.add(blob.sha256);
  const unwanted = new Map<string, BlobRef>();
  for (const key of doomedKeys) {
    for (const blob of await blobsNamedBy(store, key))
      if (!wanted.has(blob.sha256)) unwanted.set(blob.sha256, blob);
    await store.delete(key);
  }
  for (const blob of unwanted.values()) await store.delete(blobKeyOf(blob));
}

/** Empty if the manifest is damaged or gone, since the blobs it named are not known. */
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
