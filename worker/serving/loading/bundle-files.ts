/**
 * The files of bundles on a disk of this machine, by digest, so that they can be mapped. Where the object
 * store is a folder they are its own files; otherwise they are fetched into a cache of bounded size.
 * Nothing here says that a file is sound: whoever maps it compares it with its digest.
 */

import { readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError, errorOf } from '../../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../../shared/base/system-errors.js';
import { readFileOf } from '../../../shared/bundle/array-files.js';
import { type BlobRef, blobKeyOf } from '../../../shared/storage/blob-store.js';
import {
  makeFolderDurably,
  partOf,
  PART_SUFFIX,
  writeDurably,
} from '../../../shared/storage/file-bytes.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';

export interface BundleFiles {
  /** Called before a bundle is loaded, with all its files. */
  prepare(files: readonly BlobRef[]): Promise<void>;
  /** Where the file is. It may be missing or damaged. */
  pathOf(file: BlobRef): Promise<string>;
  /** Another copy of a file that was found damaged; null if there is none. */
  renewed(file: BlobRef): Promise<string | null>;
}

interface CacheTerms {
  readonly folder: string;
  readonly byteCountMax: number;
  readonly clock: Clock;
  /** Tests replace it to simulate a full disk. */
  readonly write?: (path: string, bytes: Uint8Array) => Promise<void>;
}

export function bundleFilesOf(store: ObjectStore, cache: CacheTerms): BundleFiles {
  if (!(store instanceof FileObjectStore)) return new CachedFiles(store, cache);
  return {
    prepare: () => Promise.resolve(),
    pathOf: (file) => Promise.resolve(join(store.folder, blobKeyOf(file))),
    renewed: () => Promise.resolve(null),
  };
}

/** Leftovers of a killed process are removed after this age. */
const PART_AGE_MAX_MS = 24 * 3_600_000;
const FILE_NAME = /^[0-9a-f]{64}$/;

interface CachedFile {
  readonly path: string;
  readonly byteCount: number;
  readonly usedMs: number;
}

class CachedFiles implements BundleFiles {
  readonly #store: ObjectStore;
  readonly #terms: CacheTerms;
  /** Digests of the files of the bundle that is being loaded. */
  #wanted: ReadonlySet<string> = new Set();

  constructor(store: ObjectStore, terms: CacheTerms) {
    this.#store = store;
    this.#terms = terms;
  }

  /** @throws QianmoError of kind `environment` if the bundle alone is larger than the cache may be. */
  async prepare(files: readonly BlobRef[]): Promise<void> {
    const { folder, byteCountMax } = this.#terms;
    const sizes = new Map(files.map(({ sha256, byteCount }) => [sha256, byteCount]));
    const byteCount = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    if (byteCount > byteCountMax)
      throw errorOf('environment', 'the bundle is larger than the cache of bundle files', {
        where: folder,
        expected: `at most ${byteCountMax} bytes`,
        found: `${byteCount} bytes`,
        cure: 'give a larger --cache-gib',
      });
    this.#wanted = new Set(sizes.keys());
    await this.#onDisk('opening the cache of bundle files', folder, () =>
      makeFolderDurably(folder),
    );
  }

  async pathOf(file: BlobRef): Promise<string> {
    const path = join(this.#terms.folder, file.sha256);
    const found = await this.#onDisk('looking for a cached file', path, () => stat(path)).catch(
      absent,
    );
    if (found?.size !== file.byteCount) return this.#fetch(file, path);
    const now = new Date(this.#terms.clock.epochMs());
    await this.#onDisk('marking a cached file as used', path, () => utimes(path, now, now));
    return path;
  }

  async renewed(file: BlobRef): Promise<string> {
    const path = join(this.#terms.folder, file.sha256);
    await this.#onDisk('removing a damaged file', path, () => rm(path, { force: true }));
    return this.#fetch(file, path);
  }

  /** The file appears whole or not at all, under a name that others may be mapping. */
  async #fetch(file: BlobRef, path: string): Promise<string> {
    const bytes = await readFileOf(this.#store, file);
    const { write = writeReadOnly } = this.#terms;
    await this.#onDisk('caching a file of a bundle', path, async () => {
      await this.#makeRoom(file.byteCount);
      const part = partOf(path);
      try {
        await write(part, bytes);
        await rename(part, path);
      } catch (error) {
        await rm(part, { force: true });
        throw error;
      }
    });
    return path;
  }

  /** Removes files of other bundles, the least recently used first. Whoever has mapped one keeps it. */
  async #makeRoom(byteCount: number): Promise<void> {
    const { folder, byteCountMax, clock } = this.#terms;
    const cached: CachedFile[] = [];
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const found = await stat(path).catch(absent);
      if (found === null) continue;
      const isLeftOver =
        name.endsWith(PART_SUFFIX) && clock.epochMs() - found.mtimeMs > PART_AGE_MAX_MS;
      if (isLeftOver) await rm(path, { force: true });
      else if (FILE_NAME.test(name))
        cached.push({ path, byteCount: found.size, usedMs: found.mtimeMs });
    }
    let total = byteCount + cached.reduce((sum, { byteCount: size }) => sum + size, 0);
    for (const { path, byteCount: size } of cached.sort((a, b) => a.usedMs - b.usedMs)) {
      if (total <= byteCountMax) return;
      if (this.#wanted.has(path.slice(folder.length + 1))) continue;
      await rm(path, { force: true });
      total -= size;
    }
  }

  async #onDisk<Result>(
    doing: string,
    where: string,
    work: () => Promise<Result>,
  ): Promise<Result> {
    try {
      return await work();
    } catch (cause) {
      throw systemFailure(cause, doing, where);
    }
  }
}

/** Nobody writes by mistake into a file that servers have mapped: truncated, it would end them. */
function writeReadOnly(path: string, bytes: Uint8Array): Promise<void> {
  return writeDurably(path, bytes, 0o444);
}

function absent(error: unknown): null {
  const cause = error instanceof QianmoError ? error.report.cause : error;
  if (systemCodeOf(cause) === 'ENOENT') return null;
  throw error;
}
