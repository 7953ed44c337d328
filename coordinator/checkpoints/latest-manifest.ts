/** The manifest of the latest checkpoint: the task store that it was trained on, and how far. */

import { QianmoError } from '../../shared/base/errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  LATEST_KEY,
  parseLatest,
  parseManifest,
  type CheckpointManifest,
} from './checkpoint-manifest.js';

/** Null if there is no checkpoint, or if it is damaged, which its reader tells. */
export async function latestManifestOf(
  checkpoints: ObjectStore,
): Promise<CheckpointManifest | null> {
  const latest = await checkpoints.get(LATEST_KEY);
  if (latest === null) return null;
  try {
    const { manifest: key } = parseLatest(latest.bytes, LATEST_KEY);
    const object = await checkpoints.get(key);
    return object === null ? null : parseManifest(object.bytes, key);
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}
