/** Manifests of checkpoints without their tensors: the task store that was trained on, how far, and the digest. */

import { QianmoError } from '../../shared/base/errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  LATEST_KEY,
  parseLatest,
  parseManifest,
  type CheckpointManifest,
} from './checkpoint-manifest.js';

/** Null if there is no checkpoint, or if it is damaged, which its reader reports. */
export async function latestManifestOf(
  checkpoints: ObjectStore,
): Promise<CheckpointManifest | null> {
  const pointer = await checkpoints.get(LATEST_KEY);
  if (pointer === null) return null;
  const latest = orNullIfDamaged(() => parseLatest(pointer.bytes, LATEST_KEY));
  if (latest === null) return null;
  const object = await checkpoints.get(latest.manifest);
  return object === null
    ? null
    : orNullIfDamaged(() => parseManifest(object.bytes, latest.manifest));
}

function orNullIfDamaged<Value>(parse: () => Value): Value | null {
  try {
    return parse();
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}
