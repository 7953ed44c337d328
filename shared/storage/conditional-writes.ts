/**
 * Tests whether a store honours conditional writes. Some S3-compatible stores accept the conditions and
 * ignore them, and then two coordinators can overwrite each other.
 */

import { randomUUID } from 'node:crypto';
import { QianmoError } from '../base/errors.js';
import type { ObjectStore } from './object-store.js';

/**
 * Writes and deletes one small object.
 *
 * @throws QianmoError what the store itself throws. The small object is then removed too, if possible.
 */
export async function probeConditionalWrites(store: ObjectStore): Promise<boolean> {
  const key = `probe-${randomUUID()}`;
  let areHonoured: boolean;
  try {
    areHonoured = await areConditionsHonoured(store, key);
  } catch (cause) {
    await store.delete(key).catch(() => undefined);
    if (!(cause instanceof QianmoError)) throw cause;
    // The name of the small object means nothing to a reader.
    const where = cause.report.where?.replace(`/${key}`, '') ?? store.address;
    throw new QianmoError({ ...cause.report, where });
  }
  await store.delete(key);
  return areHonoured;
}

async function areConditionsHonoured(store: ObjectStore, key: string): Promise<boolean> {
  const contentOf = (text: string): Uint8Array => Buffer.from(text);
  const first = await store.put(key, contentOf('first'), { kind: 'absent' });
  if (first === null) return false;
  if ((await store.put(key, contentOf('second'), { kind: 'absent' })) !== null) return false;
  const third = await store.put(key, contentOf('third'), { kind: 'unchanged', etag: first });
  if (third === null) return false;
  const stale = { kind: 'unchanged', etag: first } as const;
  if ((await store.put(key, contentOf('fourth'), stale)) !== null) return false;
  const found = await store.get(key);
  return found !== null && Buffer.from(found.bytes).toString() === 'third';
}
