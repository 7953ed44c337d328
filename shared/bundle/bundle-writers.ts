/**
 * Whoever writes files of bundles says so by an object `writers/NONCE.json`, and whoever removes files by
 * the object `removing.json`. Each writes its own before it looks for the other's, so that of two which begin
 * at the same moment at least one sees the other: a file is never removed that a bundle under way counts on.
 */

import { freshNonce } from '../base/nonce.js';
import { QianmoError } from '../base/errors.js';
import type { ObjectStore } from '../storage/object-store.js';
import { livenessOf, ProcessIdentitySchema, thisProcess } from '../storage/process-identity.js';

const WRITER_KEY_PREFIX = 'writers/';
const REMOVING_KEY = 'removing.json';
const IDENTITY_BYTE_COUNT_MAX = 64 * 1024;

/** @throws QianmoError of kind `transient` while files are being removed. */
export async function whileWriting<Result>(
  store: ObjectStore,
  write: () => Promise<Result>,
): Promise<Result> {
  const key = `${WRITER_KEY_PREFIX}${freshNonce()}.json`;
  await store.put(key, ownIdentity(), { kind: 'always' });
  try {
    if (await isHeld(store, REMOVING_KEY))
      throw new QianmoError({
        kind: 'transient',
        what: 'files of bundles are being removed here',
        where: `${store.address}/${REMOVING_KEY}`,
        cure: 'try again when `qianmo bundle prune` has ended; delete the object if it was killed on another machine',
      });
    return await write();
  } finally {
    await store.delete(key);
  }
}

/**
 * @param graceMs a writer on another machine counts as ended when its object is older.
 * @param remove gets the time by the clock of the store, in milliseconds since the epoch.
 * @throws QianmoError of kind `transient` while somebody writes or removes.
 */
export async function whileRemoving<Result>(
  store: ObjectStore,
  graceMs: number,
  remove: (nowMs: number) => Promise<Result>,
): Promise<Result> {
  if (!(await isHeld(store, REMOVING_KEY))) await store.delete(REMOVING_KEY);
  if ((await store.put(REMOVING_KEY, ownIdentity(), { kind: 'absent' })) === null)
    throw refused(
      `${store.address}/${REMOVING_KEY}`,
      'files of bundles are being removed by another command',
    );
  try {
    const nowMs = (await store.listWithTimes(REMOVING_KEY))[0]?.modifiedMs ?? 0;
    for (const { key, modifiedMs } of await store.listWithTimes(WRITER_KEY_PREFIX)) {
      const liveness = await livenessBehind(store, key);
      const isYoung = nowMs - modifiedMs <= graceMs;
      if (liveness === 'runs' || (liveness === 'unknown' && isYoung))
        throw refused(`${store.address}/${key}`, 'a bundle is being written here');
      await store.delete(key);
    }
    return await remove(nowMs);
  } finally {
    await store.delete(REMOVING_KEY);
  }
}

function refused(where: string, what: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    ...{ what, where },
    cure: 'try again when it has ended; delete the object if it was killed on another machine',
  });
}

function ownIdentity(): Uint8Array {
  return Buffer.from(`${JSON.stringify(thisProcess())}\n`);
}

async function isHeld(store: ObjectStore, key: string): Promise<boolean> {
  return (await livenessBehind(store, key)) !== 'ended';
}

/** Whether the process runs that the object names; `ended` if there is no such object. */
async function livenessBehind(
  store: ObjectStore,
  key: string,
): Promise<ReturnType<typeof livenessOf>> {
  const found = await store.get(key, IDENTITY_BYTE_COUNT_MAX);
  if (found === null) return 'ended';
  try {
    const text = Buffer.from(found.bytes).toString('utf8');
    return livenessOf(ProcessIdentitySchema.parse(JSON.parse(text)));
  } catch {
    return 'unknown';
  }
}
