/**
 * Objects as files of a folder. An object appears whole or not at all: it is written and synced under
 * another name and then linked or renamed into place. Conditions hold between processes: `absent` by
 * link(), which fails if the name exists, and the others under a lock file.
 */

import { createHash, randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { systemClock, type Clock } from '../base/clock.js';
import { systemFailure, systemCodeOf } from '../base/system-errors.js';
import { acquireFileLock } from './file-lock.js';
import {
  type ObjectStore,
  type PutCondition,
  type StoredObject,
  assertObjectKey,
} from './object-store.js';

/** No key starts with a dot, so these never collide with objects. */
const INCOMING_FOLDER = '.incoming';
const LOCK_FOLDER = '.locks';
/** Files that a killed process left behind are removed after this age. */
const INCOMING_AGE_MAX_MS = 24 * 3_600_000;

/** Writes a new file and syncs it. Tests replace it to simulate a full disk. */
type DurableWriter = (path: string, bytes: Uint8Array) => Promise<void>;

export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

interface FileObjectStoreOptions {
  readonly folder: string;
  readonly clock?: Clock;
  readonly write?: DurableWriter;
}

/** Every failure of the disk is a QianmoError `environment` that names the path and the cure. */
export class FileObjectStore implements ObjectStore {
  readonly address: string;
  readonly folder: string;
  readonly #clock: Clock;
  readonly #write: DurableWriter;
  #isSwept = false;

  constructor(options: FileObjectStoreOptions) {
    this.folder = resolve(options.folder);
    this.address = `file://${this.folder}`;
    this.#clock = options.clock ?? systemClock;
    this.#write = options.write ?? writeDurably;
  }

  async get(key: string): Promise<StoredObject | null> {
    const path = this.#pathOf(key);
    try {
      return await readObject(path);
    } catch (cause) {
      throw systemFailure(cause, 'reading an object', path);
    }
  }

  async put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | null> {
    const path = this.#pathOf(key);
    try {
      await mkdir(dirname(path), { recursive: true });
      const incoming = await this.#writeIncoming(bytes);
      try {
        const isWritten =
          condition.kind === 'absent'
            ? await linkIfAbsent(incoming, path)
            : await this.#replace(key, incoming, condition);
        if (!isWritten) return null;
      } finally {
        await rm(incoming, { force: true });
      }
      await syncFolder(dirname(path));
      return etagOf(bytes);
    } catch (cause) {
      throw systemFailure(cause, 'writing an object', path);
    }
  }

  async list(prefix: string): Promise<string[]> {
    const lastSlash = prefix.lastIndexOf('/');
    const start = lastSlash < 0 ? '' : prefix.slice(0, lastSlash);
    try {
      const keys = await keysUnder(this.folder, start);
      return keys.filter((key) => key.startsWith(prefix)).sort();
    } catch (cause) {
      throw systemFailure(cause, 'listing objects', join(this.folder, start));
    }
  }

  async delete(key: string): Promise<void> {
    const path = this.#pathOf(key);
    try {
      if ((await readObjectStat(path)) === null) return;
      try {
        await this.#locked(key, () => rm(path, { force: true }));
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

  async #writeIncoming(bytes: Uint8Array): Promise<string> {
    const folder = join(this.folder, INCOMING_FOLDER);
    await mkdir(folder, { recursive: true });
    if (!this.#isSwept) {
      this.#isSwept = true;
      await this.#sweep(folder);
    }
    const path = join(folder, randomUUID());
    try {
      await this.#write(path, bytes);
    } catch (cause) {
      await rm(path, { force: true });
      throw cause;
    }
    return path;
  }

  async #sweep(folder: string): Promise<void> {
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const found = await readObjectStat(path);
      if (found !== null && this.#clock.epochMs() - found.mtimeMs > INCOMING_AGE_MAX_MS)
        await rm(path, { force: true });
    }
  }

  /** `absent` needs no lock: link() never touches an object that exists. */
  async #replace(
    key: string,
    incoming: string,
    condition: Exclude<PutCondition, { kind: 'absent' }>,
  ): Promise<boolean> {
    const path = this.#pathOf(key);
    return this.#locked(key, async (isHeld) => {
      if (condition.kind === 'unchanged') {
        const found = await readObject(path);
        if (found?.etag !== condition.etag) return false;
      }
      if (!(await isHeld())) return false;
      await rename(incoming, path);
      return true;
    });
  }

  async #locked<Result>(
    key: string,
    work: (isHeld: () => Promise<boolean>) => Promise<Result>,
  ): Promise<Result> {
    const folder = join(this.folder, LOCK_FOLDER);
    await mkdir(folder, { recursive: true });
    // `+` is in no key, so that different keys have different locks.
    const lock = await acquireFileLock(join(folder, key.replaceAll('/', '+')), this.#clock);
    try {
      return await work(() => lock.isHeld());
    } finally {
      await lock.release();
    }
  }
}

function etagOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function readObject(path: string): Promise<StoredObject | null> {
  try {
    const bytes = new Uint8Array(await readFile(path));
    return { bytes, etag: etagOf(bytes) };
  } catch (cause) {
    if (isAbsence(cause)) return null;
    throw cause;
  }
}

async function readObjectStat(path: string): Promise<{ readonly mtimeMs: number } | null> {
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

/** Makes a new name survive a power failure. Some file systems do not support this. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } catch (cause) {
    if (!['EINVAL', 'EPERM', 'ENOTSUP'].includes(systemCodeOf(cause) ?? '')) throw cause;
  } finally {
    await folder.close();
  }
}
