/**
 * Opens a task store and reads the rows of tasks from it, one record batch at a time.
 *
 * On opening, the size of every file (local stores) and the SHA-256 of the catalog are checked. The
 * SHA-256 of a row file is checked on opening if the whole store is below 64 MiB, and otherwise before its first use.
 *
 * A file that cannot be read is reported as a fault of this machine: the coordinator has read the store,
 * and another machine may have a sound copy.
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileHandle, open } from 'node:fs/promises';
import {
  type AsyncRecordBatchFileReader,
  type Data,
  type RecordBatch,
  RecordBatchReader,
  tableFromIPC,
  checkArrowBlock,
  checkArrowBytes,
  checkedArrowBlocks,
} from './arrow-files.js';
import { ofThisMachine, QianmoError, errorOf } from '../base/errors.js';
import { systemFailure } from '../base/system-errors.js';
import { readBytes } from '../storage/file-bytes.js';
import type { ObjectStore } from '../storage/object-store.js';
import {
  catalogFileOf,
  COLUMNS_FILE,
  ColumnTypesSchema,
  type StoredColumnTypes,
  RESTORE_CURE,
  type StoreManifest,
  waitingFileOf,
} from './store-manifest.js';
import { decodeTargetEncoding, targetEncodingFileOf } from './target-encoding.js';
import { copiedStoreFolder, localStoreFolder } from './store-folder.js';
import { decodeTaskCatalog, dictionaryFileOf, rowsFileOf, textsOf } from './task-catalog.js';
import type { TaskEntry, TaskPlace, TaskRows, TaskStore } from './task-store.js';
import { LruCache } from '../base/lru-cache.js';
import { int32At } from '../base/arrays.js';
import { labelOf } from './task-label.js';

/** @throws QianmoError of kind `data` if the bytes are not a dictionary. */
export function decodeDictionary(bytes: Uint8Array, fileName: string): (string | null)[] {
  try {
    checkArrowBytes(bytes);
    const values = tableFromIPC(bytes).getChild('value');
    if (values === null) throw new Error('there is no column "value"');
    return textsOf(values);
  } catch (cause) {
    throw errorOf('data', 'a dictionary of the task store cannot be read', {
      where: fileName,
      cure: RESTORE_CURE,
      cause,
    });
  }
}

type TaskCatalog = ReturnType<typeof decodeTaskCatalog>;
type StoreFolder = Awaited<ReturnType<typeof localStoreFolder>>;

interface OpenTaskStoreOptions {
  /** The digest that the store must have. A job names the store that it was made from. */
  readonly expectedDigest?: string;
  /** The bound on the cache of record batches. Default 256 MiB. */
  readonly cacheByteCountMax?: number;
  /** Stores below this size are checked whole on opening. Default 64 MiB. */
  readonly verifyAtOpenByteCountMax?: number;
  /** Files of local stores that the same call has checked, and are not checked again. */
  readonly checkedFiles?: Set<string> | undefined;
  /** Needed for `s3://` addresses only. */
  readonly objectStoreOf?: (address: string) => ObjectStore;
  /** The folder for copies of `s3://` stores. Default: in the system's temporary folder. */
  readonly downloadFolder?: string;
}

const CACHE_BYTE_COUNT_MAX = 256 * 1024 * 1024;
const VERIFY_AT_OPEN_BYTE_COUNT_MAX = 64 * 1024 * 1024;

/**
 * @param address a folder, `file://` or `s3://bucket/prefix`
 * @throws QianmoError of kind `data` if there is no store, or if it is truncated, was changed, or is not
 *   the expected one.
 */
export async function openTaskStore(
  address: string,
  options: OpenTaskStoreOptions,
): Promise<TaskStore> {
  const store = await folderOf(address, options);
  try {
    return await openedStore(address, store, options);
  } catch (error) {
    await store.close();
    throw error;
  }
}

function folderOf(address: string, options: OpenTaskStoreOptions): Promise<StoreFolder> {
  if (!address.startsWith('s3://'))
    return localStoreFolder(localPathOf(address), options.checkedFiles);
  const objects = options.objectStoreOf?.(address);
  if (objects === undefined)
    throw new Error(`openTaskStore needs objectStoreOf for the address ${address}`);
  return copiedStoreFolder(objects, options.downloadFolder);
}

async function openedStore(
  address: string,
  store: StoreFolder,
  options: OpenTaskStoreOptions,
): Promise<TaskStore> {
  const { manifest, digest } = store;
  if (options.expectedDigest !== undefined && options.expectedDigest !== digest)
    throw errorOf('data', 'the task store is not the expected one', {
      where: address,
      expected: `digest ${options.expectedDigest}`,
      found: `digest ${digest}`,
      cure: 'give every process the same store; after `qianmo prepare`, start the run from the beginning',
    });
  const { verifyAtOpenByteCountMax = VERIFY_AT_OPEN_BYTE_COUNT_MAX } = options;
  const byteCount = manifest.files.reduce((sum, file) => sum + file.byteCount, 0);
  if (byteCount < verifyAtOpenByteCountMax)
    for (const file of manifest.files) await store.ready(file.name);
  const catalog = await readCatalog(
    await store.ready(catalogFileOf(manifest.appends?.length)),
    manifest,
  );
  const cache = recordBatchCache(
    (fileIndex) => store.ready(rowsFileOf(fileIndex)),
    options.cacheByteCountMax ?? CACHE_BYTE_COUNT_MAX,
  );
  return {
    manifest,
    digest,
    tasks: catalog.tasks,
    places: catalog.places,
    readTasks: (taskIndices) => readRows(taskIndices, { store, catalog, cache }),
    readDictionary: (featureName) => readDictionary(featureName, store),
    readTargetEncoding: async (categories) => {
      const path = await store.ready(targetEncodingFileOf(categories));
      return decodeTargetEncoding(await bytesAt(path), path, categories.length);
    },
    readColumnTypes: async () => {
      if (!manifest.files.some(({ name }) => name === COLUMNS_FILE)) return {};
      const path = await store.ready(COLUMNS_FILE);
      return parseColumnTypes(await bytesAt(path), path);
    },
    waitingRowsPath: async () => {
      const waiting = waitingFileOf(manifest.appends?.length);
      return manifest.files.some(({ name }) => name === waiting) ? store.ready(waiting) : null;
    },
    close: async () => {
      await cache.close();
      await store.close();
    },
  };
}

/** The values as `prepare` wrote them, then those that each append brought. */
async function readDictionary(
  featureName: string,
  store: StoreFolder,
): Promise<readonly (string | null)[]> {
  const { appends = [], files } = store.manifest;
  const values: (string | null)[] = [];
  for (let append = 0; append <= appends.length; append += 1) {
    const name = dictionaryFileOf(featureName, append);
    if (append > 0 && !files.some((file) => file.name === name)) continue;
    const path = await store.ready(name);
    for (const value of decodeDictionary(await bytesAt(path), path)) values.push(value);
  }
  return values;
}

function bytesAt(path: string): Promise<Uint8Array> {
  return readBytes(path).catch((cause: unknown) => {
    throw systemFailure(cause, 'reading a file of the task store', path);
  });
}

interface OpenStore {
  readonly store: StoreFolder;
  readonly catalog: TaskCatalog;
  readonly cache: RecordBatchCache;
}

async function readRows(
  taskIndices: readonly number[],
  { store, catalog, cache }: OpenStore,
): Promise<TaskRows[]> {
  const { manifest, folder } = store;
  const found: TaskRows[] = [];
  let last: { readonly place: TaskPlace; readonly batch: RecordBatch } | null = null;
  for (const taskIndex of taskIndices) {
    const task = catalog.tasks[taskIndex];
    const place = catalog.places[taskIndex];
    if (task === undefined || place === undefined)
      throw errorOf('data', `the task store has no task ${taskIndex}`, {
        where: folder,
        expected: `an index below ${catalog.tasks.length}`,
        cure: 'the job was made from another store: give every process the same store',
      });
    try {
      if (last === null || !isSameBatch(last.place, place))
        last = { place, batch: await cache.batch(place.fileIndex, place.batchIndex) };
      found.push(taskRowsOf(last.batch, manifest, task, place.rowOffset));
    } catch (cause) {
      const name = rowsFileOf(place.fileIndex);
      store.distrust(name);
      await cache.forget(place.fileIndex);
      throw ofThisMachine(unreadable(join(folder, name), cause));
    }
  }
  return found;
}

function isSameBatch(first: TaskPlace, second: TaskPlace): boolean {
  return first.fileIndex === second.fileIndex && first.batchIndex === second.batchIndex;
}

async function readCatalog(path: string, manifest: StoreManifest): Promise<TaskCatalog> {
  try {
    const catalog = decodeTaskCatalog(await readBytes(path));
    const entryCount = manifest.taskCount + (manifest.trunk?.batchCount ?? 0);
    if (catalog.tasks.length !== entryCount)
      throw new Error(`${catalog.tasks.length} tasks, the manifest says ${entryCount}`);
    return catalog;
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

function unreadable(path: string, cause: unknown): QianmoError {
  if (cause instanceof QianmoError) return cause;
  return errorOf('data', 'a file of the task store cannot be read as Arrow IPC', {
    where: path,
    found: cause instanceof Error ? cause.message : String(cause),
    cure: RESTORE_CURE,
    cause,
  });
}

export function localPathOf(address: string): string {
  return address.startsWith('file://') ? fileURLToPath(address) : address;
}

interface RecordBatchCache {
  batch(fileIndex: number, batchIndex: number): Promise<RecordBatch>;
  /** Opens the file again for the next batch. Batches that were read stay. */
  forget(fileIndex: number): Promise<void>;
  close(): Promise<void>;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly reader: AsyncRecordBatchFileReader;
  readonly blocks: Awaited<ReturnType<typeof checkedArrowBlocks>>;
  /** Reads share one position in the file, so they follow each other. */
  last: Promise<unknown>;
}

function recordBatchCache(
  pathOf: (fileIndex: number) => Promise<string>,
  byteCountMax: number,
): RecordBatchCache {
  const files = new Map<number, Promise<OpenFile>>();
  const batches = new LruCache<string, Promise<RecordBatch>>({ byteCountMax });

  const fileAt = (fileIndex: number): Promise<OpenFile> => {
    const known = files.get(fileIndex);
    if (known !== undefined) return known;
    const opened = pathOf(fileIndex).then(openFile);
    files.set(fileIndex, opened);
    opened.catch(() => files.delete(fileIndex));
    return opened;
  };

  const read = async (fileIndex: number, batchIndex: number): Promise<RecordBatch> => {
    const file = await fileAt(fileIndex);
    const block = file.blocks[batchIndex];
    if (block === undefined) throw new Error(`there is no record batch ${batchIndex}`);
    const reading = file.last.then(async () => {
      await checkArrowBlock(file.handle, block);
      return file.reader.readRecordBatch(batchIndex);
    });
    file.last = reading.catch(() => null);
    const batch = await reading;
    if (batch === null) throw new Error(`record batch ${batchIndex} cannot be read`);
    return batch;
  };

  return {
    async batch(fileIndex, batchIndex) {
      const key = `${fileIndex}/${batchIndex}`;
      const known = batches.get(key);
      if (known !== undefined) return known;
      // How large it is shows once it is read.
      const reading = read(fileIndex, batchIndex);
      void batches.put(key, reading);
      try {
        const batch = await reading;
        if (batches.get(key) === reading) void batches.put(key, reading, batch.data.byteLength);
        return batch;
      } catch (error) {
        batches.delete(key);
        throw error;
      }
    },
    async forget(fileIndex) {
      const opened = files.get(fileIndex);
      files.delete(fileIndex);
      await closed(await opened?.catch(() => undefined));
    },
    async close() {
      const opened = await Promise.allSettled(files.values());
      files.clear();
      void batches.clear();
      for (const file of opened) if (file.status === 'fulfilled') await closed(file.value);
    },
  };
}

async function closed(file: OpenFile | undefined): Promise<void> {
  await file?.last;
  await file?.handle.close();
}

async function openFile(path: string): Promise<OpenFile> {
  const handle = await open(path, 'r');
  try {
    const blocks = await checkedArrowBlocks(handle);
    const reader = await RecordBatchReader.from(handle);
    await reader.open();
    if (!reader.isFile()) throw new Error('it is not an Arrow IPC file');
    return { handle, reader, blocks, last: Promise.resolve() };
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}

/** The columns of a record batch by use, found by name once for all tasks in it. */
interface BatchColumns {
  readonly rowCount: number;
  readonly categoryIds: readonly Int32Array[];
  readonly bags: readonly { readonly ids: Int32Array; readonly lengthMax: number }[];
  readonly numbers: readonly Float32Array[];
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
  readonly oracle: Float32Array | null;
  readonly times: Float64Array;
  readonly logRows: BigInt64Array;
}

const COLUMNS = new WeakMap<RecordBatch, BatchColumns>();

/**
 * The rows of one task as views on the batch, which they keep in memory.
 *
 * @throws Error if a column is missing or has another type than the manifest says.
 */
export function taskRowsOf(
  batch: RecordBatch,
  manifest: StoreManifest,
  task: TaskEntry,
  rowOffset: number,
): TaskRows {
  const columns = columnsOf(batch, manifest);
  const { taskIndex, supportRowCount } = task;
  const rowCount = supportRowCount + task.queryRowCount;
  const end = rowOffset + rowCount;
  if (end > columns.rowCount)
    throw new Error(`the record batch has ${columns.rowCount} rows, the catalog needs ${end}`);
  return {
    ...{ taskIndex, rowCount, supportRowCount },
    loss: labelOf(manifest, task).loss,
    ...(task.split === 'trunk' ? { isTrunk: true as const } : {}),
    categoryIds: columns.categoryIds.map((ids) => ids.subarray(rowOffset, end)),
    bagIds: columns.bags.map(({ ids, lengthMax }) =>
      ids.subarray(rowOffset * lengthMax, end * lengthMax),
    ),
    numbers: columns.numbers.map((numbers) => numbers.subarray(rowOffset, end)),
    clicks: columns.clicks.subarray(rowOffset, end),
    impressions: columns.impressions.subarray(rowOffset, end),
    oracle: columns.oracle?.subarray(rowOffset, end) ?? null,
    times: columns.times.subarray(rowOffset, end),
    // Computations hardly ever ask for them.
    get logRows() {
      return numbersOf(columns.logRows.subarray(rowOffset, end));
    },
  };
}

function columnsOf(batch: RecordBatch, manifest: StoreManifest): BatchColumns {
  const known = COLUMNS.get(batch);
  if (known !== undefined) return known;
  const column = (name: string): Data => {
    const index = batch.schema.fields.findIndex((field) => field.name === name);
    const data = batch.data.children[index];
    if (data === undefined) throw new Error(`there is no column ${name}`);
    return data;
  };
  const floats = (name: string): Float32Array => valuesOf(Float32Array, column(name), name);
  const namesOf = (kind: string): string[] =>
    manifest.features.filter((feature) => feature.kind === kind).map((feature) => feature.name);
  const columns = {
    rowCount: batch.numRows,
    categoryIds: namesOf('category').map((name) => valuesOf(Int32Array, column(name), name)),
    bags: manifest.features.flatMap((feature) => {
      if (feature.kind !== 'bag') return [];
      const { lengthMax, name } = feature;
      const members = column(name).children[0];
      if (members === undefined) throw new Error(`the column ${name} holds no lists`);
      return [{ ids: valuesOf(Int32Array, members, name), lengthMax }];
    }),
    numbers: namesOf('number').map(floats),
    clicks: floats('clicks'),
    impressions: floats('impressions'),
    oracle: manifest.hasOracle ? floats('oracle') : null,
    times: valuesOf(Float64Array, column('time'), 'time'),
    logRows: valuesOf(BigInt64Array, column('row'), 'row'),
  };
  COLUMNS.set(batch, columns);
  return columns;
}

/** Reads halves of each value, which are no objects. */
function numbersOf(values: BigInt64Array): Float64Array {
  const numbers = new Float64Array(values.length);
  const halves = new Int32Array(values.buffer, values.byteOffset, 2 * values.length);
  for (let place = 0; place < numbers.length; place += 1)
    numbers[place] = int32At(halves, 2 * place + 1) * 2 ** 32 + (int32At(halves, 2 * place) >>> 0);
  return numbers;
}

/** The values of a column, which must be of the given type. */
function valuesOf<Values>(of: new (...args: never) => Values, data: Data, name: string): Values {
  const values: unknown = data.values;
  if (values instanceof of) return values;
  throw new Error(`the column ${name} does not hold ${of.name}`);
}

/** @throws QianmoError of kind `data` if the bytes are not types of columns. */
function parseColumnTypes(bytes: Uint8Array, where: string): StoredColumnTypes {
  try {
    return ColumnTypesSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw errorOf('data', "the types of the logs' columns cannot be read", {
      where,
      cure: RESTORE_CURE,
      cause,
    });
  }
}
