/**
 * Publishes the finished store: to a folder by a rename, or to an object store with the manifest last. A
 * partial store is never at the address.
 */

import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../shared/base/system-errors.js';
import { makeFolders } from '../../shared/storage/file-bytes.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { checkFileSize, parseManifest } from '../../shared/tasks/store-folder.js';
import { MANIFEST_FILE, type StoreManifest } from '../../shared/tasks/store-manifest.js';
import { localPathOf } from '../../shared/tasks/task-store-reader.js';
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

function fileLock(path: string): LockPlace {
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
function objectLock(objects: ObjectStore, key: string): LockPlace {
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
async function lockStore(place: LockPlace): Promise<() => Promise<void>> {
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
  return errorOf('transient', 'another prepare is writing this task store', {
    where: place.address,
    found:
      holder === null
        ? 'a lock that names no process'
        : `a lock of process ${holder.pid} on ${holder.host}`,
    cure: 'wait until it has finished; if it is no longer running, delete the lock named above',
  });
}

interface StoreTarget {
  /** The complete store that already exists, or null. */
  present(): Promise<StoreManifest | null>;
  /** A new folder to write into. */
  readonly workFolder: string;
  /** Publishes the store of the work folder at the address. */
  publish(manifest: StoreManifest): Promise<void>;
  /**
   * Adds files of the work folder to the store at the address, then replaces its manifest, in one step.
   *
   * @param superseded files that nothing needs afterwards; they may be absent.
   */
  publishAppended(names: readonly string[], superseded: readonly string[]): Promise<void>;
  /** Removes the store at the address. A local one is gone at once. */
  remove(): Promise<void>;
  /** Removes what was not published and releases the lock. */
  discard(): Promise<void>;
}

/**
 * The target is locked until it is discarded.
 *
 * @throws QianmoError of kind `usage` if the address holds something that is not a store, `transient` while
 *   another prepare writes there.
 */
export async function openStoreTarget(
  address: string,
  objectStoreOf: (address: string) => ObjectStore,
  temporaryFolder: string,
): Promise<StoreTarget> {
  return address.startsWith('s3://')
    ? remoteTarget(objectStoreOf(address), join(temporaryFolder, 'store'))
    : localTarget(resolve(localPathOf(address)));
}

const UNFINISHED = '.partial-';
const LOCK = '.prepare-lock';

async function localTarget(folder: string): Promise<StoreTarget> {
  const workFolder = `${folder}${UNFINISHED}${process.pid}`;
  const names = await readdir(folder).catch((cause: unknown): string[] => {
    if (systemCodeOf(cause) === 'ENOENT') return [];
    throw systemFailure(cause, 'reading the place of the task store', folder);
  });
  if (names.length > 0 && !names.includes(MANIFEST_FILE))
    throw errorOf('usage', 'the place of the task store holds something else', {
      where: folder,
      expected: 'an empty or absent folder, or an earlier task store',
      found: names.slice(0, 5).join(', '),
      cure: 'choose another folder in data.store, or empty this one',
    });
  const unlock = await lockFolder(folder);
  try {
    await removeUnfinished(folder);
    await mkdir(join(workFolder, 'dictionaries'), { recursive: true });
  } catch (cause) {
    await unlock();
    throw systemFailure(cause, 'writing the task store', dirname(folder));
  }
  return {
    workFolder,
    async present() {
      try {
        const bytes = await readFile(join(folder, MANIFEST_FILE));
        const { manifest } = parseManifest(bytes, folder);
        for (const file of manifest.files) await checkFileSize(folder, file);
        return manifest;
      } catch {
        // It is absent or broken, and is written again in either case.
        return null;
      }
    },
    async publish() {
      const replaced = `${folder}.replaced-${process.pid}`;
      try {
        if (names.length > 0) await rename(folder, replaced);
        else await rm(folder, { recursive: true, force: true });
        await rename(workFolder, folder);
        await rm(replaced, { recursive: true, force: true });
      } catch (cause) {
        throw systemFailure(cause, 'putting the task store in its place', folder);
      }
    },
    async publishAppended(added, superseded) {
      try {
        for (const name of [...added, MANIFEST_FILE]) {
          await mkdir(dirname(join(folder, name)), { recursive: true });
          await rename(join(workFolder, name), join(folder, name));
        }
        for (const name of superseded) await rm(join(folder, name), { force: true });
      } catch (cause) {
        throw systemFailure(cause, 'appending to the task store', folder);
      }
    },
    async remove() {
      await rm(workFolder, { recursive: true, force: true });
      if (names.length > 0) await rename(folder, workFolder);
    },
    async discard() {
      await rm(workFolder, { recursive: true, force: true });
      await unlock();
    },
  };
}

async function lockFolder(folder: string): Promise<() => Promise<void>> {
  try {
    await makeFolders(dirname(folder));
  } catch (cause) {
    throw systemFailure(cause, 'writing the task store', dirname(folder));
  }
  return lockStore(fileLock(`${folder}${LOCK}`));
}

/** Removes leftovers of killed prepares. While the store is locked, nothing else writes beside it. */
async function removeUnfinished(folder: string): Promise<void> {
  const start = `${basename(folder)}${UNFINISHED}`;
  for (const name of await readdir(dirname(folder)))
    if (name.startsWith(start))
      await rm(join(dirname(folder), name), { recursive: true, force: true });
}

async function remoteTarget(objects: ObjectStore, workFolder: string): Promise<StoreTarget> {
  await mkdir(join(workFolder, 'dictionaries'), { recursive: true });
  const unlock = await lockStore(objectLock(objects, LOCK.slice(1)));
  return {
    workFolder,
    async present() {
      const object = await objects.get(MANIFEST_FILE);
      if (object === null) return null;
      try {
        return parseManifest(object.bytes, objects.address).manifest;
      } catch {
        // It is broken and is written again.
        return null;
      }
    },
    async publish(manifest) {
      // A reader that still has the old manifest must not read the new files.
      await objects.delete(MANIFEST_FILE);
      for (const name of [...manifest.files.map((file) => file.name), MANIFEST_FILE])
        await objects.put(name, await readFile(join(workFolder, name)), { kind: 'always' });
    },
    async publishAppended(added, superseded) {
      for (const name of [...added, MANIFEST_FILE])
        await objects.put(name, await readFile(join(workFolder, name)), { kind: 'always' });
      for (const name of superseded) await objects.delete(name);
    },
    async remove() {
      const keys = (await objects.list('')).filter((key) => key !== LOCK.slice(1));
      for (const key of [MANIFEST_FILE, ...keys]) await objects.delete(key);
    },
    async discard() {
      await rm(workFolder, { recursive: true, force: true });
      await unlock();
    },
  };
}
