/**
 * The files of one task store in a local folder: the store itself, or a copy of a store at `s3://`. Each
 * file is checked before its first use. A failed check is not remembered, because the file may be restored,
 * and a damaged copy is fetched again.
 */

import { basename, join, dirname } from 'node:path';
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
  rename,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { QianmoError, errorOf } from '../base/errors.js';
import type { ObjectStore } from '../storage/object-store.js';
import {
  MANIFEST_FILE,
  type StoreManifest,
  StoreManifestSchema,
  RESTORE_CURE,
} from './store-manifest.js';
import { type Clock, systemClock } from '../base/clock.js';
import { systemCodeOf, systemFailure } from '../base/system-errors.js';
import { PART_SUFFIX, partOf } from '../storage/file-bytes.js';
import { removeFolder, withFolderLock } from '../storage/file-lock.js';
import { livenessOf, ProcessIdentitySchema, thisProcess } from '../storage/process-identity.js';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { sha256Of } from '../tensors/sha256.js';

/** A larger manifest is not read. That of a store of 100,000 row files has about 16 MB. */
const MANIFEST_BYTE_COUNT_MAX = 256 * 1024 * 1024;

interface StoreFolder extends ReadManifest {
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

/** @param checkedFiles receives those whose content was checked. */
export async function localStoreFolder(
  folder: string,
  checkedFiles = new Set<string>(),
): Promise<StoreFolder> {
  const read = await readLocalManifest(folder);
  for (const file of read.manifest.files) await checkFileSize(folder, file);
  return new CheckedFolder(read, folder, checkedFiles);
}

/** @param copiesFolder the folder for copies of stores. */
export async function copiedStoreFolder(
  objects: ObjectStore,
  copiesFolder: string | undefined,
): Promise<StoreFolder> {
  const object = await objects.get(MANIFEST_FILE, MANIFEST_BYTE_COUNT_MAX);
  if (object === null) throw noStoreAt(objects.address);
  const read = parseManifest(object.bytes, `${objects.address}/${MANIFEST_FILE}`);
  const copy = await openStoreCopy(read.digest, copiesFolder);
  // Each store has a copy of its own.
  return new CheckedFolder(read, copy.folder, new Set(), { objects, copy });
}

class CheckedFolder implements StoreFolder {
  readonly manifest: ReadManifest['manifest'];
  readonly digest: string;
  readonly folder: string;
  readonly #origin: { readonly objects: ObjectStore; readonly copy: StoreCopy } | null;
  /** Paths of files, each with the digest of its content. */
  readonly #checkedFiles: Set<string>;
  /** By name: checks under way and those that succeeded. */
  readonly #checks = new Map<string, Promise<string>>();

  /** @param origin where the folder is a copy; null where it is the store itself. */
  constructor(
    { manifest, digest }: ReadManifest,
    folder: string,
    checkedFiles: Set<string>,
    origin: { readonly objects: ObjectStore; readonly copy: StoreCopy } | null = null,
  ) {
    this.manifest = manifest;
    this.digest = digest;
    this.folder = folder;
    this.#checkedFiles = checkedFiles;
    this.#origin = origin;
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
    this.#checkedFiles.delete(this.#contentOf(this.#listed(name)));
  }

  async close(): Promise<void> {
    await this.#origin?.copy.close();
  }

  #forget(name: string, check: Promise<string>): void {
    if (this.#checks.get(name) === check) this.#checks.delete(name);
  }

  #listed(name: string): StoreFile {
    const file = this.manifest.files.find((listed) => listed.name === name);
    if (file !== undefined) return file;
    throw errorOf('data', 'the manifest of the task store does not list a file it needs', {
      where: this.folder,
      expected: name,
      cure: RESTORE_CURE,
    });
  }

  async #checked(file: StoreFile): Promise<string> {
    const objects = this.#origin?.objects;
    if (objects !== undefined) await fetchFile(objects, this.folder, file);
    try {
      await this.#check(file);
    } catch (cause) {
      if (objects === undefined || !isDamage(cause)) throw cause;
      await removeFile(this.folder, file);
      await fetchFile(objects, this.folder, file);
      await this.#check(file).catch(async (again: unknown) => {
        await removeFile(this.folder, file);
        throw damagedOnArrival(again, `${objects.address}/${file.name}`);
      });
    }
    return join(this.folder, file.name);
  }

  async #check(file: StoreFile): Promise<void> {
    await checkFileSize(this.folder, file);
    const content = this.#contentOf(file);
    if (this.#checkedFiles.has(content)) return;
    await checkFileContent(this.folder, file);
    this.#checkedFiles.add(content);
  }

  #contentOf({ name, sha256 }: StoreFile): string {
    return `${join(this.folder, name)} ${sha256}`;
  }
}

function isDamage(cause: unknown): cause is QianmoError {
  return cause instanceof QianmoError && cause.kind === 'data';
}

function damagedOnArrival(cause: unknown, origin: string): unknown {
  if (!isDamage(cause)) return cause;
  return new QianmoError({
    ...cause.report,
    what: 'a file of the task store was damaged again after it was fetched anew',
    where: origin,
    cure: `if other machines can read it, check the disk and the network of this one; otherwise ${RESTORE_CURE}`,
    cause,
  });
}

/** Bounds all copies that no process uses, together. */
const UNUSED_BYTE_COUNT_MAX = 8 * 1024 ** 3;
const UNUSED_AGE_MAX_MS = 24 * 3_600_000;
/** A user that cannot be seen from here, such as one in another container, counts for this long. */
const UNSEEN_USER_AGE_MAX_MS = 7 * 24 * 3_600_000;

const USERS_FOLDER = '.users';
const DIGEST = /^[0-9a-f]{64}$/;

interface StoreCopy {
  readonly folder: string;
  close(): Promise<void>;
}

interface CopyBounds {
  readonly unusedByteCountMax: number;
  readonly unusedAgeMaxMs: number;
  readonly clock: Clock;
}

const BOUNDS: CopyBounds = {
  unusedByteCountMax: UNUSED_BYTE_COUNT_MAX,
  unusedAgeMaxMs: UNUSED_AGE_MAX_MS,
  clock: systemClock,
};

/** In the temporary folder of the system, one for each user. */
function defaultCopiesFolder(): string {
  // The user may have no name, as in a container with a number that the image does not know.
  return join(tmpdir(), `qianmo-stores-${process.getuid?.() ?? 'user'}`);
}

/**
 * Registers this process as a user of the copy with this digest, which is empty at first, and removes
 * copies that are not wanted any more.
 *
 * @throws QianmoError `environment` if the folder of copies belongs to another user or cannot be written.
 */
export async function openStoreCopy(
  digest: string,
  copiesFolder = defaultCopiesFolder(),
  bounds = BOUNDS,
): Promise<StoreCopy> {
  const folder = join(copiesFolder, digest);
  const users = join(folder, USERS_FOLDER);
  let mark = users;
  try {
    await makePrivate(copiesFolder);
    await withFolderLock(copiesFolder, bounds.clock, async (workFolder) => {
      mark = join(users, basename(workFolder));
      await mkdir(users, { recursive: true });
      await writeFile(mark, JSON.stringify(thisProcess()));
      await removeUnwanted(copiesFolder, bounds);
    });
  } catch (cause) {
    throw systemFailure(cause, 'opening the copy of a task store', folder);
  }
  return {
    folder,
    close: async () => {
      // Leftovers are removed when the next copy is opened.
      await withFolderLock(copiesFolder, bounds.clock, async () => {
        await rm(mark, { force: true });
        await removeUnwanted(copiesFolder, bounds);
      }).catch(() => undefined);
    },
  };
}

async function makePrivate(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const found = await lstat(path);
  const uid = process.getuid?.();
  if (!found.isDirectory() || (uid !== undefined && found.uid !== uid))
    throw errorOf('environment', 'the folder for copies of task stores belongs to someone else', {
      where: path,
      cure: 'remove it, or set TMPDIR to a folder of your own',
    });
  if ((found.mode & 0o077) !== 0) await chmod(path, 0o700);
}

interface UnusedCopy {
  readonly folder: string;
  readonly byteCount: number;
  /** When the last mark of a user was set or removed. */
  readonly usedMs: number;
}

async function removeUnwanted(copiesFolder: string, bounds: CopyBounds): Promise<void> {
  const unused: UnusedCopy[] = [];
  for (const name of (await readdir(copiesFolder)).filter((each) => DIGEST.test(each))) {
    const copy = await unusedCopyIn(join(copiesFolder, name), bounds.clock);
    if (copy !== null) unused.push(copy);
  }
  let keptByteCount = 0;
  for (const copy of unused.sort((first, second) => second.usedMs - first.usedMs)) {
    const isOld = bounds.clock.epochMs() - copy.usedMs > bounds.unusedAgeMaxMs;
    if (isOld || keptByteCount + copy.byteCount > bounds.unusedByteCountMax)
      await removeFolder(copy.folder);
    else keptByteCount += copy.byteCount;
  }
}

/** Removes the marks of users that have ended. Null if there is another user. */
async function unusedCopyIn(folder: string, clock: Clock): Promise<UnusedCopy | null> {
  const users = join(folder, USERS_FOLDER);
  let userCount = 0;
  for (const name of await namesIn(users)) {
    const mark = join(users, name);
    if (await isUser(mark, clock)) userCount += 1;
    else await rm(mark, { force: true });
  }
  if (userCount > 0) return null;
  const byteCount = await removePartsAndMeasure(folder);
  const status = await stat(users).catch(() => null);
  return { folder, byteCount, usedMs: status?.mtimeMs ?? 0 };
}

async function isUser(mark: string, clock: Clock): Promise<boolean> {
  try {
    const identity = ProcessIdentitySchema.parse(JSON.parse(await readFile(mark, 'utf8')));
    const liveness = livenessOf(identity);
    if (liveness !== 'unknown') return liveness === 'runs';
    return clock.epochMs() - (await stat(mark)).mtimeMs < UNSEEN_USER_AGE_MAX_MS;
  } catch {
    return false;
  }
}

/** Removes files whose download was cut off, and returns the size of the others. */
async function removePartsAndMeasure(folder: string): Promise<number> {
  let byteCount = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    if (entry.name.endsWith(PART_SUFFIX)) await rm(path, { force: true });
    else byteCount += (await stat(path)).size;
  }
  return byteCount;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') return [];
    throw cause;
  }
}

interface ReadManifest {
  readonly manifest: StoreManifest;
  /** SHA-256 of the manifest's bytes. */
  readonly digest: string;
}

/** @throws QianmoError of kind `data` if the bytes are not a manifest that this version reads. */
export function parseManifest(bytes: Uint8Array, where: string): ReadManifest {
  let content: unknown;
  try {
    content = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw errorOf('data', 'the manifest of the task store is not JSON', {
      where,
      found: `${bytes.byteLength} bytes that end too early or were changed`,
      cure: RESTORE_CURE,
      cause,
    });
  }
  const parsed = StoreManifestSchema.safeParse(content);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw errorOf('data', 'the manifest of the task store is not one that this version reads', {
      where,
      found: issue === undefined ? 'unknown fields' : `${issue.path.join('.')}: ${issue.message}`,
      cure: RESTORE_CURE,
    });
  }
  return {
    manifest: parsed.data,
    digest: sha256Of(bytes),
  };
}

async function readLocalManifest(folder: string): Promise<ReadManifest> {
  const path = join(folder, MANIFEST_FILE);
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') throw noStoreAt(folder);
    throw systemFailure(cause, 'reading the task store', path);
  }
  return parseManifest(bytes, path);
}

const NO_STORE = 'there is no task store';

export function isNoStore(error: unknown): boolean {
  return error instanceof QianmoError && error.report.what === NO_STORE;
}

function noStoreAt(address: string): QianmoError {
  return errorOf('data', NO_STORE, {
    where: address,
    expected: `a folder with ${MANIFEST_FILE}`,
    cure: 'write it with `qianmo prepare`, or correct data.store',
  });
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 }))
    // A read stream without encoding gives buffers.
    hash.update(bytes as Buffer);
  return hash.digest('hex');
}

type StoreFile = StoreManifest['files'][number];

/** @throws QianmoError of kind `data` if the file is missing or has another size. */
export async function checkFileSize(folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  let byteCount: number;
  try {
    byteCount = (await stat(path)).size;
  } catch (cause) {
    if (systemCodeOf(cause) !== 'ENOENT')
      throw systemFailure(cause, 'reading a file of the task store', path);
    throw errorOf('data', 'a file of the task store is missing', {
      where: path,
      expected: `${file.byteCount} bytes`,
      cure: RESTORE_CURE,
    });
  }
  if (byteCount !== file.byteCount)
    throw errorOf('data', 'a file of the task store has another size than its manifest says', {
      where: path,
      expected: `${file.byteCount} bytes`,
      found: `${byteCount} bytes`,
      cure: RESTORE_CURE,
    });
}

/** @throws QianmoError of kind `data` if the content does not match the manifest. */
async function checkFileContent(folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  let sha256: string;
  try {
    sha256 = await sha256OfFile(path);
  } catch (cause) {
    throw systemFailure(cause, 'reading a file of the task store', path);
  }
  if (sha256 !== file.sha256)
    throw errorOf('data', 'a file of the task store was changed', {
      where: path,
      expected: `sha256 ${file.sha256}`,
      found: `sha256 ${sha256}`,
      cure: RESTORE_CURE,
    });
}

/** Fetches one file into the folder, once. The file appears only when it is complete. */
async function fetchFile(objects: ObjectStore, folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  const present = await stat(path).catch(() => null);
  if (present?.size === file.byteCount) return;
  const object = await objects.get(file.name, file.byteCount);
  if (object === null)
    throw errorOf('data', 'a file of the task store is missing', {
      where: `${objects.address}/${file.name}`,
      expected: `${file.byteCount} bytes`,
      cure: RESTORE_CURE,
    });
  // Two readers of one process may fetch the same file at the same time.
  const part = partOf(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(part, object.bytes);
    await rename(part, path);
  } catch (cause) {
    await rm(part, { force: true }).catch(() => undefined);
    throw systemFailure(cause, 'keeping a file of the task store locally', path);
  }
}

async function removeFile(folder: string, file: StoreFile): Promise<void> {
  const path = join(folder, file.name);
  try {
    await rm(path, { force: true });
  } catch (cause) {
    throw systemFailure(cause, 'removing a damaged file of the task store', path);
  }
}
