/** Reads the latest checkpoint of a simulation, as a resume would find it. */

import {
  blobsOf,
  LATEST_KEY,
  parseManifest,
} from '../../coordinator/checkpoints/checkpoint-manifest.js';
import { leftOutOf } from '../../coordinator/checkpoints/checkpoint-reader.js';
import type { LeftOut } from '../../coordinator/checkpoints/left-out-leaves.js';
import { z } from 'zod';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { blobKeyOf } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';

const PointerSchema = z.looseObject({ manifest: z.string() });

type FoundCheckpoint =
  | {
      readonly outerStep: number;
      readonly digest: string;
      /** Null where a fault has changed the record. */
      readonly leftOut: readonly LeftOut[] | null;
    }
  | { readonly problem: string };

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
  const { outerStep, metaParametersDigest: digest, leftOutJobs } = manifest;
  const isDamaged = leftOutJobs !== undefined && damagedKeys.has(blobKeyOf(leftOutJobs));
  const leftOut = isDamaged ? null : ((await leftOutOf(manifest, store)) ?? []);
  return { outerStep, digest, leftOut };
}
