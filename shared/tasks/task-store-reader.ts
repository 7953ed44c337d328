/**
 * Opens a task store and reads the rows of tasks from it, one record batch at a time.
 *
 * On opening, the size of every file (local stores) and the SHA-256 of the catalog are checked. The
 * SHA-256 of a row file is checked on opening if the whole store is below 64 MiB or `verify` is true,
 * and otherwise before its first use. With `verify: false` only sizes are checked.
 */

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { QianmoError } from '../base/errors.js';
import type { ObjectStore } from '../storage/object-store.js';
import { recordBatchCache, type RecordBatchCache } from './record-batch-cache.js';
import {
  checkFileContent,
  checkFileSize,
  fetchFile,
  noStoreAt,
  parseManifest,
  readLocalManifest,
  RESTORE_CURE,
  type ReadManifest,
} from './store-files.js';
import { CATALOG_FILE, MANIFEST_FILE, type StoreManifest } from './store-manifest.js';
import { decodeTaskCatalog, rowsFileOf, type TaskCatalog } from './task-catalog.js';
import { taskRowsOf } from './task-rows-decoder.js';
import type { TaskRows, TaskStore } from './task-store.js';

interface OpenTaskStoreOptions {
  /** The digest that the store must have. A job names the store that it was made from. */
  readonly expectedDigest?: string;
  /** The bound on the cache of record batches. Default 256 MiB. */
  readonly cacheByteCountMax?: number;
  readonly verify?: boolean;
  /** Needed for `s3://` addresses only. */
  readonly objectStoreOf?: (address: string) => ObjectStore;
  /** The folder for files of `s3://` stores, by digest. Default: in the system's temporary folder. */
  readonly downloadFolder?: string;
}

const CACHE_BYTE_COUNT_MAX = 256 * 1024 * 1024;
const VERIFY_AT_OPEN_BYTE_COUNT_MAX = 64 * 1024 * 1024;

type StoreFile = StoreManifest['files'][number];

/** The files of one opened store in a local folder. */
interface StoreFolder extends ReadManifest {
  readonly folder: string;
  /** Fetches the file into the folder if it is not there yet. */
  readonly fetch: (file: StoreFile) => Promise<void>;
}

/**
 * @param address a folder, `file://` or `s3://bucket/prefix`
 * @throws QianmoError of kind `data` if there is no store, or if it is truncated, was changed, or is not
 *   the expected one.
 */
export async function openTaskStore(
  address: string,
  options: OpenTaskStoreOptions,
): Promise<TaskStore> {
  const store = address.startsWith('s3://')
    ? await remoteStore(address, options)
    : await localStore(localPathOf(address));
  const { manifest, digest, folder } = store;
  if (options.expectedDigest !== undefined && options.expectedDigest !== digest)
    throw new QianmoError({
      kind: 'data',
      what: 'the task store is not the expected one',
      where: address,
      expected: `digest ${options.expectedDigest}`,
      found: `digest ${digest}`,
      cure: 'give every process the same store; after `qianmo prepare`, start the run from the beginning',
    });

  const checked = new Map<string, Promise<void>>();
  const ready = (name: string): Promise<void> => {
    const known = checked.get(name);
    if (known !== undefined) return known;
    const check = readyFile(store, name, options.verify !== false);
    checked.set(name, check);
    return check;
  };
  const byteCount = manifest.files.reduce((sum, file) => sum + file.byteCount, 0);
  const verifyNow = options.verify ?? byteCount < VERIFY_AT_OPEN_BYTE_COUNT_MAX;
  if (verifyNow) for (const file of manifest.files) await ready(file.name);
  await ready(CATALOG_FILE);
  const catalog = await readCatalog(folder, manifest);

  const cache = recordBatchCache(async (fileIndex) => {
    await ready(rowsFileOf(fileIndex));
    return join(folder, rowsFileOf(fileIndex));
  }, options.cacheByteCountMax ?? CACHE_BYTE_COUNT_MAX);
  return {
    manifest,
    digest,
    tasks: catalog.tasks,
    readTasks: (taskIndices) => readTasks(taskIndices, store, catalog, cache),
    close: () => cache.close(),
  };
}

async function readTasks(
  taskIndices: readonly number[],
  { manifest, folder }: Pick<StoreFolder, 'manifest' | 'folder'>,
  catalog: TaskCatalog,
  cache: RecordBatchCache,
): Promise<TaskRows[]> {
  const found: TaskRows[] = [];
  for (const taskIndex of taskIndices) {
    const task = catalog.tasks[taskIndex];
    const place = catalog.places[taskIndex];
    if (task === undefined || place === undefined)
      throw new QianmoError({
        kind: 'data',
        what: `the task store has no task ${taskIndex}`,
        where: folder,
        expected: `an index below ${catalog.tasks.length}`,
        cure: 'the job was made from another store: give every process the same store',
      });
    try {
      const batch = await cache.batch(place.fileIndex, place.batchIndex);
      found.push(taskRowsOf(batch, manifest, task, place.rowOffset));
    } catch (cause) {
      throw unreadable(join(folder, rowsFileOf(place.fileIndex)), cause);
    }
  }
  return found;
}

async function readyFile(store: StoreFolder, name: string, verify: boolean): Promise<void> {
  const file = store.manifest.files.find((listed) => listed.name === name);
  if (file === undefined)
    throw new QianmoError({
      kind: 'data',
      what: 'the manifest of the task store does not list a file it needs',
      where: store.folder,
      expected: name,
      cure: RESTORE_CURE,
    });
  await store.fetch(file);
  await checkFileSize(store.folder, file);
  if (verify) await checkFileContent(store.folder, file);
}

async function readCatalog(folder: string, manifest: StoreManifest): Promise<TaskCatalog> {
  const path = join(folder, CATALOG_FILE);
  try {
    const catalog = decodeTaskCatalog(await readFile(path));
    if (catalog.tasks.length !== manifest.taskCount)
      throw new Error(`${catalog.tasks.length} tasks, the manifest says ${manifest.taskCount}`);
    return catalog;
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

function unreadable(path: string, cause: unknown): QianmoError {
  if (cause instanceof QianmoError) return cause;
  return new QianmoError({
    kind: 'data',
    what: 'a file of the task store cannot be read as Arrow IPC',
    where: path,
    found: cause instanceof Error ? cause.message : String(cause),
    cure: RESTORE_CURE,
    cause,
  });
}

async function localStore(folder: string): Promise<StoreFolder> {
  const read = await readLocalManifest(folder);
  for (const file of read.manifest.files) await checkFileSize(folder, file);
  return { ...read, folder, fetch: () => Promise.resolve() };
}

async function remoteStore(address: string, options: OpenTaskStoreOptions): Promise<StoreFolder> {
  const objects = options.objectStoreOf?.(address);
  if (objects === undefined)
    throw new Error(`openTaskStore needs objectStoreOf for the address ${address}`);
  const object = await objects.get(MANIFEST_FILE);
  if (object === null) throw noStoreAt(address);
  const read = parseManifest(object.bytes, `${address}/${MANIFEST_FILE}`);
  const folder = join(options.downloadFolder ?? join(tmpdir(), 'qianmo-stores'), read.digest);
  return { ...read, folder, fetch: (file) => fetchFile(objects, folder, file) };
}

export function localPathOf(address: string): string {
  return address.startsWith('file://') ? fileURLToPath(address) : address;
}
