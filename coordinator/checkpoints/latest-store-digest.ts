/** The task store that the latest checkpoint was trained on. */

import { QianmoError } from '../../shared/base/errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { LATEST_KEY, parseLatest, parseManifest } from './checkpoint-manifest.js';

/** Null if there is no checkpoint, or if it is damaged, which its reader tells. */
export async function latestStoreDigest(checkpoints: ObjectStore): Promise<string | null> {
  const latest = await checkpoints.get(LATEST_KEY);
  if (latest === null) return null;
  try {
    const { manifest: key } = parseLatest(latest.bytes, LATEST_KEY);
    const object = await checkpoints.get(key);
    return object === null ? null : parseManifest(object.bytes, key).storeDigest;
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}
