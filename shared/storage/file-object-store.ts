/**
 * Objects as files of a folder. An object appears whole or not at all: it is written and synced under
 * another name and then linked or renamed into place. Conditions hold between processes: `absent` by
 * link(), which fails if the name exists, and the others under a lock whose holder cannot write any more
 * once the lock is broken.
 */

import type { Stats } from 'node:fs';
import { link, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { systemClock, type Clock } from '../base/clock.js';
import { QianmoError } from '../base/errors.js';
import { systemFailure, systemCodeOf } from '../base/system-errors.js';
import { sha256Of } from '../tensors/sha256.js';
import {
  makeFolderDurably,
  makeFolders,
  readBytes,
  syncFolder,
  writeDurably,
} from './file-bytes.js';
import {
  holderNamesIn,
  isFolderThere,
  LockBrokenError,
  makeHolder,
  removeFolder,
  withFileLock,
} from './file-lock.js';
import {
  type Durability,
  type ListedObject,
  type ObjectStore,
  type PutCondition,
  type StoredObject,
  assertObjectKey,
  refuseLarger,
} from './object-store.js';

/** No key starts with a dot, so these never collide with objects. */
const INCOMING_FOLDER = '.incoming';
const LOCK_FOLDER = '.locks';
const UUID_LENGTH = 36;
/** Leftovers of killed processes are removed after this age. */
const INCOMING_AGE_MAX_MS = 24 * 3_600_000;
/** A process that stands still for a minute in every attempt is not one that can write. */
const LOCKED_ATTEMPTS_MAX = 5;

/** Writes a new file and syncs it. Tests replace it to simulate a full disk. */
type DurableWriter = (path: string, bytes: Uint8Array) => Promise<void>;

interface FileObjectStoreOptions {
  readonly folder: string;
  readonly clock?: Clock;
  readonly write?: DurableWriter;
  /** Makes the names in a folder survive a power failure. Tests replace it to count. */
  readonly sync?: (folder: string) => Promise<void>;
}

/** Every failure of the disk is a QianmoError `environment` that names the path and the cure. */
export class FileObjectStore implements ObjectStore {
  readonly address: string;
  readonly folder: string;
  readonly #clock: Clock;
  readonly #write: DurableWriter;
  readonly #sync: (folder: string) => Promise<void>;
  /** Folders with names that are not synced yet. */
  readonly #unsynced = new Set<string>();
  #isSwept = false;

  constructor(options: FileObjectStoreOptions) {
    this.folder = resolve(options.folder);
    this.address = `file://${this.folder}`;
    this.#clock = options.clock ?? systemClock;
    this.#write = options.write ?? writeDurably;
    this.#sync = options.sync ?? syncFolder;
  }

  async get(key: string, byteCountMax = Infinity): Promise<StoredObject | null> {
    const path = this.#pathOf(key);
    try {
      const found = await readObjectStat(path);
      if (found?.isFile() === true) refuseLarger(found.size, byteCountMax, path);
      return await readObject(path);
    } catch (cause) {
      throw systemFailure(cause, 'reading an object', path);
    }
  }

  async put(
    key: string,
    bytes: Uint8Array,
    condition: PutCondition,
    durability: Durability = 'now',
  ): Promise<string | null> {
    const path = this.#pathOf(key);
    try {
      // An output that was deleted must not come back as empty folders.
      if (condition.kind === 'unchanged' && (await readObjectStat(path)) === null) return null;
      await makeFolderDurably(dirname(path), this.#sync);
      const isWritten = await this.#asHolder(async (workFolder) => {
        const incoming = join(workFolder, 'object');
        await this.#write(incoming, bytes);
        return condition.kind === 'absent'
          ? linkIfAbsent(incoming, path)
          : this.#replace(key, workFolder, incoming, condition);
      });
      // A process that was killed may have written an object without syncing its name.
      const isThere = isWritten || condition.kind === 'absent';
      if (isThere && durability === 'at-flush') this.#unsynced.add(dirname(path));
      else if (isThere) await this.#sync(dirname(path));
      return isWritten ? sha256Of(bytes) : null;
    } catch (cause) {
      throw systemFailure(cause, 'writing an object', path);
    }
  }

  async flush(): Promise<void> {
    for (const folder of [...this.#unsynced])
      try {
        await this.#sync(folder);
        this.#unsynced.delete(folder);
      } catch (cause) {
        throw systemFailure(cause, 'writing objects', folder);
      }
  }

  async list(prefix: string, countMax?: number): Promise<string[]> {
    const lastSlash = prefix.lastIndexOf('/');
    const start = lastSlash < 0 ? '' : prefix.slice(0, lastSlash);
    try {
      const keys = await keysUnder(this.folder, start);
      return keys
        .filter((key) => key.startsWith(prefix))
        .sort()
        .slice(0, countMax);
    } catch (cause) {
      throw systemFailure(cause, 'listing objects', join(this.folder, start));
    }
  }

  async listWithTimes(prefix: string): Promise<ListedObject[]> {
    const listed: ListedObject[] = [];
    for (const key of await this.list(prefix)) {
      const path = this.#pathOf(key);
      const found = await readObjectStat(path).catch((cause: unknown) => {
        throw systemFailure(cause, 'listing objects', path);
      });
      // Another process may delete objects meanwhile.
      if (found !== null) listed.push({ key, modifiedMs: found.mtimeMs, byteCount: found.size });
    }
    return listed;
  }

  async delete(key: string): Promise<void> {
    const path = this.#pathOf(key);
    try {
      if ((await readObjectStat(path)) === null) return;
      try {
        await this.#asHolder((workFolder) => this.#moveAway(key, workFolder));
      } catch (cause) {
        // A full disk has no room for a lock, and deleting makes room.
        if (!['ENOSPC', 'EDQUOT'].includes(systemCodeOf(cause) ?? '')) throw cause;
        await rm(path, { force: true });
      }
    } catch (cause) {
      throw systemFailure(cause, 'deleting an object', path);
    }
  }

  #pathOf(key: string): string {
    assertObjectKey(key);
    return join(this.folder, key);
  }

  /**
   * Gives the work a folder that makes it the holder of locks, and starts over in another folder if the
   * lock was broken while this process stood still.
   */
  async #asHolder<Result>(work: (workFolder: string) => Promise<Result>): Promise<Result> {
    const incoming = join(this.folder, INCOMING_FOLDER);
    await makeFolders(incoming);
    if (!this.#isSwept) {
      this.#isSwept = true;
      await this.#sweep(incoming);
    }
    for (let attempt = 1; ; attempt += 1) {
      const workFolder = await makeHolder(incoming);
      try {
        return await work(workFolder);
      } catch (cause) {
        if (!(cause instanceof LockBrokenError)) throw cause;
        if (attempt === LOCKED_ATTEMPTS_MAX) throw brokenTooOften(cause, this.folder);
      } finally {
        await removeFolder(workFolder);
      }
    }
  }

  async #sweep(folder: string): Promise<void> {
    const holders = await holderNamesIn(join(this.folder, LOCK_FOLDER));
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const found = await readObjectStat(path);
      const isOld = found !== null && this.#clock.epochMs() - found.mtimeMs > INCOMING_AGE_MAX_MS;
      // Breaking a lock needs the work folder of its holder.
      if (isOld && !holders.has(name.slice(0, UUID_LENGTH))) await removeFolder(path);
    }
  }

  /** `absent` needs no lock: link() never touches an object that exists. */
  #replace(
    key: string,
    workFolder: string,
    incoming: string,
    condition: Exclude<PutCondition, { kind: 'absent' }>,
  ): Promise<boolean> {
    const path = this.#pathOf(key);
    return this.#locked(key, workFolder, async () => {
      if (condition.kind === 'unchanged') {
        const found = await readObject(path);
        if (found?.etag !== condition.etag) return false;
      }
      await whileHeld(workFolder, () => rename(incoming, path));
      return true;
    });
  }

  #moveAway(key: string, workFolder: string): Promise<void> {
    const path = this.#pathOf(key);
    return this.#locked(key, workFolder, async () => {
      if ((await readObjectStat(path)) === null) return;
      await whileHeld(workFolder, () => rename(path, join(workFolder, 'deleted')));
    });
  }

  #locked<Result>(key: string, workFolder: string, work: () => Promise<Result>): Promise<Result> {
    // `+` is in no key, so that different keys have different locks.
    const lockPath = join(this.folder, LOCK_FOLDER, key.replaceAll('/', '+'));
    return withFileLock(lockPath, workFolder, this.#clock, work);
  }
}

/** @throws LockBrokenError if a rename out of the work folder or into it failed because the folder is gone. */
async function whileHeld(workFolder: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    const isBroken = systemCodeOf(cause) === 'ENOENT' && !(await isFolderThere(workFolder));
    throw isBroken ? new LockBrokenError('the lock was broken before the rename') : cause;
  }
}

function brokenTooOften(cause: LockBrokenError, folder: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `this process stood still for a minute in each of ${LOCKED_ATTEMPTS_MAX} attempts to write`,
    where: folder,
    cure: 'look for a disk that does not answer or a machine without processor time, then try again',
    cause,
  });
}

async function readObject(path: string): Promise<StoredObject | null> {
  try {
    const bytes = await readBytes(path);
    return { bytes, etag: sha256Of(bytes) };
  } catch (cause) {
    if (isAbsence(cause)) return null;
    throw cause;
  }
}

async function readObjectStat(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (cause) {
    if (isAbsence(cause)) return null;
    throw cause;
  }
}

/** No object there: nothing, or a folder that holds other objects. */
function isAbsence(cause: unknown): boolean {
  const code = systemCodeOf(cause);
  return code === 'ENOENT' || code === 'EISDIR';
}

async function linkIfAbsent(incoming: string, path: string): Promise<boolean> {
  try {
    await link(incoming, path);
    return true;
  } catch (cause) {
    if (systemCodeOf(cause) === 'EEXIST') return false;
    throw cause;
  }
}

async function keysUnder(root: string, folder: string): Promise<string[]> {
  let entries;
  try {
    entries = await readdir(join(root, folder), { withFileTypes: true });
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') return [];
    throw cause;
  }
  const keys: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) keys.push(...(await keysUnder(root, key)));
    else keys.push(key);
  }
  return keys;
}
