/** Reads the latest checkpoint of a simulation, as a resume would find it. */

import {
  type CheckpointManifest,
  LATEST_KEY,
  type ValidatedStep,
  blobsOf,
  parseManifest,
} from '../../coordinator/checkpoints/checkpoint-manifest.js';
import { z } from 'zod';
import { blobKeyOf, blobRefOf } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';

const PointerSchema = z.looseObject({ manifest: z.string() });

export interface WholeCheckpoint {
  readonly outerStep: number;
  readonly digest: string;
  readonly validated: readonly ValidatedStep[];
  /** The checkpoint that is named as the best one; null if that is this one, or none is named. */
  readonly best: { readonly outerStep: number; readonly digest: string } | null;
}

type FoundCheckpoint = WholeCheckpoint | { readonly problem: string };

/**
 * Null before the first checkpoint.
 *
 * @param damagedKeys objects that a fault has changed, which are not looked at.
 */
export async function checkedCheckpoint(
  store: ObjectStore,
  damagedKeys: ReadonlySet<string>,
): Promise<FoundCheckpoint | null> {
  const pointer = await store.get(LATEST_KEY);
  if (pointer === null) return null;
  const { manifest: key } = PointerSchema.parse(
    JSON.parse(Buffer.from(pointer.bytes).toString('utf8')),
  );
  const manifest = await wholeManifest(store, key, damagedKeys);
  if ('problem' in manifest) return manifest;
  const { outerStep, metaParametersDigest: digest, validated = [] } = manifest;
  const found = { outerStep, digest, validated };
  if (manifest.best === undefined) return { ...found, best: null };
  const best = await wholeManifest(store, manifest.best.manifest, damagedKeys);
  if ('problem' in best) return best;
  return { ...found, best: { outerStep: best.outerStep, digest: best.metaParametersDigest } };
}

async function wholeManifest(
  store: ObjectStore,
  key: string,
  damagedKeys: ReadonlySet<string>,
): Promise<CheckpointManifest | { readonly problem: string }> {
  const object = await store.get(key);
  if (object === null) return { problem: `${key} is not there` };
  const manifest = parseManifest(object.bytes, key);
  for (const ref of blobsOf(manifest)) {
    const blobKey = blobKeyOf(ref);
    if (damagedKeys.has(blobKey)) continue;
    const blob = await store.get(blobKey);
    if (blob === null) return { problem: `${blobKey} of ${key} is not there` };
    if (blobRefOf(blob.bytes).sha256 !== ref.sha256)
      return { problem: `${blobKey} of ${key} has other bytes` };
  }
  return manifest;
}
