/**
 * The files of one task store in a local folder: the store itself, or a copy of a store at `s3://`. Each
 * file is checked before its first use. A failed check is not remembered, because the file may be restored,
 * and a damaged copy is fetched again.
 */

import { join } from 'node:path';
import { QianmoError } from '../base/errors.js';
import type { ObjectStore } from '../storage/object-store.js';
import { openStoreCopy, type StoreCopy } from './store-copies.js';
import {
  checkFileContent,
  checkFileSize,
  fetchFile,
  noStoreAt,
  parseManifest,
  readLocalManifest,
  removeFile,
  RESTORE_CURE,
  type ReadManifest,
  type StoreFile,
} from './store-files.js';
import { MANIFEST_BYTE_COUNT_MAX, MANIFEST_FILE } from './store-manifest.js';

export interface StoreFolder extends ReadManifest {
  readonly folder: string;
  /**
   * Fetches the file if it is not there yet, checks it, and returns its path.
   *
   * @throws QianmoError of kind `data` if the file is missing or damaged.
   */
  ready(name: string): Promise<string>;
  /** Has the file checked again before its next use, since its content could not be read. */
  distrust(name: string): void;
  /** Gives up the copy, which may then be removed. */
  close(): Promise<void>;
}

/** Paths of files, each with the digest of its content. */
export type CheckedFiles = Set<string>;

/** How the files of a folder come there. */
interface FileSource {
  readonly folder: string;
  fetch(file: StoreFile): Promise<void>;
  /** Removes a damaged file that can be fetched again, and returns its origin; null otherwise. */
  discard(file: StoreFile): Promise<string | null>;
  close(): Promise<void>;
}

/**
 * @param verify false if only the sizes of files are checked.
 * @param checkedFiles receives those whose content was checked.
 */
export async function localStoreFolder(
  folder: string,
  verify: boolean,
  checkedFiles: CheckedFiles = new Set(),
): Promise<StoreFolder> {
  const read = await readLocalManifest(folder);
  for (const file of read.manifest.files) await checkFileSize(folder, file);
  const source: FileSource = {
    folder,
    fetch: () => Promise.resolve(),
    discard: () => Promise.resolve(null),
    close: () => Promise.resolve(),
  };
  return new CheckedFolder(read, source, { verify, checkedFiles });
}

/** @param copiesFolder the folder for copies of stores. */
export async function copiedStoreFolder(
  objects: ObjectStore,
  copiesFolder: string | undefined,
  verify: boolean,
): Promise<StoreFolder> {
  const object = await objects.get(MANIFEST_FILE, MANIFEST_BYTE_COUNT_MAX);
  if (object === null) throw noStoreAt(objects.address);
  const read = parseManifest(object.bytes, `${objects.address}/${MANIFEST_FILE}`);
  const copy = await openStoreCopy(read.digest, copiesFolder);
  // Each store has a copy of its own.
  return new CheckedFolder(read, sourceOfCopy(objects, copy), { verify, checkedFiles: new Set() });
}

function sourceOfCopy(objects: ObjectStore, copy: StoreCopy): FileSource {
  return {
    folder: copy.folder,
    fetch: (file) => fetchFile(objects, copy.folder, file),
    discard: async (file) => {
      await removeFile(copy.folder, file);
      return `${objects.address}/${file.name}`;
    },
    close: () => copy.close(),
  };
}

interface Checking {
  /** Contents are checked as well as sizes. */
  readonly verify: boolean;
  readonly checkedFiles: CheckedFiles;
}

class CheckedFolder implements StoreFolder {
  readonly manifest: ReadManifest['manifest'];
  readonly digest: string;
  readonly folder: string;
  readonly #source: FileSource;
  readonly #checking: Checking;
  /** By name: checks under way and those that succeeded. */
  readonly #checks = new Map<string, Promise<string>>();

  constructor({ manifest, digest }: ReadManifest, source: FileSource, checking: Checking) {
    this.manifest = manifest;
    this.digest = digest;
    this.folder = source.folder;
    this.#source = source;
    this.#checking = checking;
  }

  ready(name: string): Promise<string> {
    const known = this.#checks.get(name);
    if (known !== undefined) return known;
    const check = this.#checked(this.#listed(name));
    this.#checks.set(name, check);
    check.catch(() => this.#forget(name, check));
    return check;
  }

  distrust(name: string): void {
    this.#checks.delete(name);
    this.#checking.checkedFiles.delete(this.#contentOf(this.#listed(name)));
  }

  close(): Promise<void> {
    return this.#source.close();
  }

  #forget(name: string, check: Promise<string>): void {
    if (this.#checks.get(name) === check) this.#checks.delete(name);
  }

  #listed(name: string): StoreFile {
    const file = this.manifest.files.find((listed) => listed.name === name);
    if (file !== undefined) return file;
    throw new QianmoError({
      kind: 'data',
      what: 'the manifest of the task store does not list a file it needs',
      where: this.folder,
      expected: name,
      cure: RESTORE_CURE,
    });
  }

  async #checked(file: StoreFile): Promise<string> {
    await this.#source.fetch(file);
    try {
      await this.#check(file);
    } catch (cause) {
      if (!(cause instanceof QianmoError) || cause.kind !== 'data') throw cause;
      const origin = await this.#source.discard(file);
      if (origin === null) throw cause;
      await this.#source.fetch(file);
      await this.#check(file).catch(async (again: unknown) => {
        await this.#source.discard(file);
        throw damagedOnArrival(again, origin);
      });
    }
    return join(this.folder, file.name);
  }

  async #check(file: StoreFile): Promise<void> {
    await checkFileSize(this.folder, file);
    const { verify, checkedFiles } = this.#checking;
    const content = this.#contentOf(file);
    if (!verify || checkedFiles.has(content)) return;
    await checkFileContent(this.folder, file);
    checkedFiles.add(content);
  }

  #contentOf({ name, sha256 }: StoreFile): string {
    return `${join(this.folder, name)} ${sha256}`;
  }
}

function damagedOnArrival(cause: unknown, origin: string): unknown {
  if (!(cause instanceof QianmoError) || cause.kind !== 'data') return cause;
  return new QianmoError({
    ...cause.report,
    what: 'a file of the task store was damaged again after it was fetched anew',
    where: origin,
    cure: `if other machines can read it, check the disk and the network of this one; otherwise ${RESTORE_CURE}`,
    cause,
  });
}
