/**
 * Removes checkpoints that are not wanted any more: the manifest first, then the blobs that only it named.
 * Touches only what checkpoints have written.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import { BLOB_KEY_PREFIX, blobKeyOf } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  LATEST_KEY,
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
  /** The checkpoint with the lowest validation loss, if it is not the latest. */
  readonly bestKey: string | undefined;
  /** Manifests that could not be read. */
  readonly damagedKeys: ReadonlySet<string>;
}

/**
 * Keeps the latest, the newest of earlier outer steps, and the one with the lowest validation loss. Others of the same or a later step were left by
 * failed attempts or by an earlier start of the run, and are removed too.
 *
 * A process killed between manifest and blobs leaves blobs behind, which `removeOrphans` finds.
 */
export async function removeOldCheckpoints(
  store: ObjectStore,
  { latestKey, bestKey, kept, knownKeys, damagedKeys }: Retention,
): Promise<void> {
  const latestStep = outerStepOfKey(latestKey) ?? 0;
  const keys = await store.list(MANIFEST_KEY_PREFIX);
  const known = keys.filter((key) => knownKeys.has(key) && outerStepOfKey(key) !== null);
  const earlier = known.filter(
    (key) => !damagedKeys.has(key) && (outerStepOfKey(key) ?? 0) < latestStep,
  );
  const keptKeys = new Set([latestKey, bestKey, ...earlier.reverse().slice(0, kept - 1)]);
  const doomedKeys = known.filter((key) => !keptKeys.has(key));
  if (doomedKeys.length === 0) return;

  const wanted = new Set<string>();
  for (const key of keys.filter((listed) => !doomedKeys.includes(listed)))
    for (const blob of (await blobsNamedBy(store, key)) ?? []) wanted.add(blob.sha256);
  const unwanted = new Map<string, BlobRef>();
  for (const key of doomedKeys) {
    for (const blob of (await blobsNamedBy(store, key)) ?? [])
      if (!wanted.has(blob.sha256)) unwanted.set(blob.sha256, blob);
    await store.delete(key);
  }
  for (const blob of unwanted.values()) await store.delete(blobKeyOf(blob));
}

/**
 * Another coordinator may have put a younger blob for a manifest that it has not written yet. The upload of
 * one checkpoint takes less time than this.
 */
const ORPHAN_AGE_MIN_MS = 3_600_000;

const BLOB_KEY = new RegExp(`^${BLOB_KEY_PREFIX}[0-9a-f]{64}$`);

/**
 * Removes blobs that no manifest names, once they are old: they belong to checkpoints that were cut off.
 * Nothing is removed while there is a manifest that cannot be read, since the blobs that it names are not
 * known. Ages are differences of the store's own times, so clocks of other machines do not count.
 *
 * @param latest the checkpoint that this coordinator has just written. It stops when another has become
 *   the latest, since its coordinator may use blobs of a checkpoint that was cut off.
 * @returns the number of orphans that are left, because they are young or may be named.
 */
export async function removeOrphans(
  store: ObjectStore,
  latest: { readonly manifestKey: string; readonly etag: string | null },
): Promise<number> {
  // Listed before the manifests: a manifest is written after the blobs that it names.
  const blobs = await store.listWithTimes(BLOB_KEY_PREFIX);
  const manifests = await store.listWithTimes(MANIFEST_KEY_PREFIX);
  const named = new Set<string>();
  let isEachRead = true;
  for (const { key } of manifests) {
    const refs = await blobsNamedBy(store, key);
    isEachRead &&= refs !== null;
    for (const ref of refs ?? []) named.add(blobKeyOf(ref));
  }
  const writtenMs = manifests.find(({ key }) => key === latest.manifestKey)?.modifiedMs ?? 0;
  const orphans = blobs.filter(({ key }) => BLOB_KEY.test(key) && !named.has(key));
  if (!isEachRead) return orphans.length;
  const old = orphans.filter(({ modifiedMs }) => modifiedMs < writtenMs - ORPHAN_AGE_MIN_MS);
  let removedCount = 0;
  for (const { key } of old) {
    if ((await store.get(LATEST_KEY))?.etag !== latest.etag) break;
    await store.delete(key);
    removedCount += 1;
  }
  return orphans.length - removedCount;
}

/** Null if the manifest is damaged, since the blobs it named are not known. Empty if it is gone. */
async function blobsNamedBy(store: ObjectStore, key: string): Promise<BlobRef[] | null> {
  const object = await store.get(key);
  if (object === null) return [];
  try {
    return blobsOf(parseManifest(object.bytes, `${store.address}/${key}`));
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}
