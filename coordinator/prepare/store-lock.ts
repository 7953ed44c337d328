/**
 * Allows one prepare at a time on a store, by a small file or object that names the writing process. A
 * lock whose process is gone is taken over. For a process of another machine or container this cannot be
 * known.
 */

import { readFile, rm, writeFile } from 'node:fs/promises';
import { QianmoError } from '../../shared/base/errors.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { systemCodeOf, systemFailure } from '../../shared/base/system-errors.js';
import {
  livenessOf,
  ProcessIdentitySchema,
  thisProcess,
  type ProcessIdentity,
} from '../../shared/storage/process-identity.js';

interface LockPlace {
  /** The address for messages, which names what to delete if the lock is stale. */
  readonly address: string;
  /** False if there is a lock already. */
  create(content: string): Promise<boolean>;
  /** Null if there is no lock. */
  read(): Promise<string | null>;
  remove(): Promise<void>;
}

export function fileLock(path: string): LockPlace {
  return {
    address: path,
    async create(content) {
      try {
        await writeFile(path, content, { flag: 'wx' });
        return true;
      } catch (cause) {
        if (systemCodeOf(cause) === 'EEXIST') return false;
        throw systemFailure(cause, 'locking the task store', path);
      }
    },
    read: () =>
      readFile(path, 'utf8').catch((cause: unknown) => {
        if (systemCodeOf(cause) === 'ENOENT') return null;
        throw systemFailure(cause, 'locking the task store', path);
      }),
    remove: () => rm(path, { force: true }),
  };
}

/** Has no effect on a store that ignores conditions on writes. */
export function objectLock(objects: ObjectStore, key: string): LockPlace {
  return {
    address: `${objects.address}/${key}`,
    create: async (content) =>
      (await objects.put(key, Buffer.from(content), { kind: 'absent' })) !== null,
    read: async () => {
      const object = await objects.get(key);
      return object === null ? null : Buffer.from(object.bytes).toString('utf8');
    },
    remove: () => objects.delete(key),
  };
}

const TRIES_MAX = 3;

/**
 * @returns a function that releases the lock.
 * @throws QianmoError of kind `transient` while another prepare holds it.
 */
export async function lockStore(place: LockPlace): Promise<() => Promise<void>> {
  const mine = `${JSON.stringify(thisProcess())}\n`;
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    if (await place.create(mine)) {
      return async () => {
        // The work is complete. A lock that could not be removed is taken over later.
        await place.remove().catch(() => undefined);
      };
    }
    const content = await place.read();
    if (content === null) continue;
    const holder = parsedHolder(content);
    if (holder === null || livenessOf(holder) !== 'ended') throw isHeld(place, holder);
    await place.remove();
  }
  throw isHeld(place, parsedHolder((await place.read()) ?? ''));
}

/** Null if the lock does not say which process holds it. */
function parsedHolder(content: string): ProcessIdentity | null {
  try {
    return ProcessIdentitySchema.safeParse(JSON.parse(content)).data ?? null;
  } catch {
    return null;
  }
}

function isHeld(place: LockPlace, holder: ProcessIdentity | null): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: 'another prepare is writing this task store',
    where: place.address,
    found:
      holder === null
        ? 'a lock that names no process'
        : `a lock of process ${holder.pid} on ${holder.host}`,
    cure: 'wait until it has finished; if it is no longer running, delete the lock named above',
  });
}
