/** Manifests of checkpoints without their tensors: the task store that was trained on, how far, and the digest. */

import { QianmoError } from '../../shared/base/errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  BEST_KEY,
  LATEST_KEY,
  parseLatest,
  parseManifest,
  type CheckpointManifest,
} from './checkpoint-manifest.js';
import { bestOf } from './validated-steps.js';

/** Null if there is no checkpoint, or if it is damaged, which its reader tells. */
export function latestManifestOf(checkpoints: ObjectStore): Promise<CheckpointManifest | null> {
  return manifestNamedBy(LATEST_KEY, checkpoints);
}

/** The manifest of the parameters that the run ended with: those of the lowest validation loss, where it was scored. */
export async function chosenManifestOf(
  checkpoints: ObjectStore,
): Promise<CheckpointManifest | null> {
  const latest = await latestManifestOf(checkpoints);
  const best = bestOf(latest?.validated);
  if (best === null || best.outerStep === latest?.outerStep) return latest;
  return manifestNamedBy(BEST_KEY, checkpoints);
}

async function manifestNamedBy(
  pointerKey: string,
  checkpoints: ObjectStore,
): Promise<CheckpointManifest | null> {
  const pointer = await checkpoints.get(pointerKey);
  if (pointer === null) return null;
  try {
    const { manifest: key } = parseLatest(pointer.bytes, pointerKey);
    const object = await checkpoints.get(key);
    return object === null ? null : parseManifest(object.bytes, key);
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}
