/**
 * Finds out whether a store honours conditional writes by trying: some S3-compatible stores take
 * the conditions and ignore them, and then two coordinators can overwrite each other.
 */

import { randomUUID } from 'node:crypto';
import type { ObjectStore } from './object-store.js';

/** Writes and deletes one small object. Failures of the store itself are thrown. */
export async function probeConditionalWrites(store: ObjectStore): Promise<boolean> {
  const key = `probe-${randomUUID()}`;
  const contentOf = (text: string): Uint8Array => Buffer.from(text);
  try {
    const first = await store.put(key, contentOf('first'), { kind: 'absent' });
    if (first === null) return false;
    if ((await store.put(key, contentOf('second'), { kind: 'absent' })) !== null) return false;
    const third = await store.put(key, contentOf('third'), { kind: 'unchanged', etag: first });
    if (third === null) return false;
    const stale = { kind: 'unchanged', etag: first } as const;
    if ((await store.put(key, contentOf('fourth'), stale)) !== null) return false;
    const found = await store.get(key);
    return found !== null && Buffer.from(found.bytes).toString() === 'third';
  } finally {
    await store.delete(key);
  }
}
