/**
 * Writes the row files of a task store: record batches of whole tasks in files of bounded size, each of
 * which is hashed while it is written. Knows the columns of the store and nothing of DuckDB.
 */

import { createHash, type Hash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Data,
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int32,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Uint8,
} from '../../shared/tasks/arrow-files.js';
import type { EncodedFeature, StoreManifest } from '../../shared/tasks/store-manifest.js';
import { rowsFileOf } from '../../shared/tasks/task-catalog.js';
import type { TaskPlace } from '../../shared/tasks/task-store.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import { at, float64At, numberAt, uint8At } from '../../shared/base/arrays.js';

export interface RowFileWriter {
  nextPlace(): Omit<TaskPlace, 'rowOffset'>;
  write(columns: RowColumns): Promise<void>;
}

const FILE_BYTE_COUNT_MAX = 64 * 1024 * 1024;

interface RowFileChoice {
  readonly hasOracle: boolean;
  /**
   * A file takes batches until they have this size. Sizes of the batches count, since what has reached the disk
   * varies between runs, and the store must not.
   */
  readonly fileByteCountMax?: number;
  /** The number of the first file, behind those that a store has already. */
  readonly firstFileIndex?: number;
}

/** @returns the result of the work, and every file with its size and hash. */
export async function writeRowFiles<Result>(
  folder: string,
  features: readonly EncodedFeature[],
  { hasOracle, fileByteCountMax = FILE_BYTE_COUNT_MAX, firstFileIndex = 0 }: RowFileChoice,
  work: (writer: RowFileWriter) => Promise<Result>,
): Promise<{ readonly result: Result; readonly files: StoreFile[] }> {
  const schema = rowSchema(features, hasOracle);
  const files: StoreFile[] = [];
  let current: ArrowFile | null = null;
  let batchIndex = 0;
  let batchesByteCount = 0;

  const finishCurrent = async (): Promise<void> => {
    if (current === null) return;
    files.push(await current.finish());
    current = null;
    batchIndex = 0;
    batchesByteCount = 0;
  };
  const writer: RowFileWriter = {
    nextPlace: () => ({ fileIndex: firstFileIndex + files.length, batchIndex }),
    async write(columns) {
      current ??= new ArrowFile(folder, rowsFileOf(firstFileIndex + files.length), schema);
      const batch = batchOf(columns, schema);
      await current.write(batch);
      batchIndex += 1;
      batchesByteCount += batch.data.byteLength;
      if (batchesByteCount >= fileByteCountMax) await finishCurrent();
    },
  };
  const open = (): ArrowFile | null => current;
  try {
    const result = await work(writer);
    await finishCurrent();
    return { result, files };
  } catch (cause) {
    open()?.abandon();
    throw cause;
  }
}

/** Writes a file of record batches and returns it with its size and hash. */
export async function writeArrowFile(
  folder: string,
  name: string,
  schema: Schema,
  write: (file: Pick<ArrowFile, 'write'>) => Promise<void>,
): Promise<StoreFile> {
  const file = new ArrowFile(folder, name, schema);
  try {
    await write(file);
    return await file.finish();
  } catch (cause) {
    file.abandon();
    throw cause;
  }
}

/** @throws QianmoError of kind `environment` if the disk refuses. */
export async function writeStoreFile(
  folder: string,
  name: string,
  content: string | Uint8Array,
): Promise<void> {
  const path = join(folder, name);
  await writeFile(path, content).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing the task store', path);
  });
}

function rowSchema(features: readonly EncodedFeature[], hasOracle: boolean): Schema {
  const field = (name: string, type: Field['type']): Field => new Field(name, type, false);
  return new Schema([
    field('row', new Int64()),
    field('role', new Uint8()),
    field('time', new Float64()),
    field('clicks', new Float32()),
    field('impressions', new Float32()),
    ...features.map((feature) => {
      switch (feature.kind) {
        case 'category':
          return field(feature.name, new Int32());
        case 'bag':
          return field(
            feature.name,
            new FixedSizeList(feature.lengthMax, field('item', new Int32())),
          );
        case 'number':
          return field(feature.name, new Float32());
      }
    }),
    ...(hasOracle ? [field('oracle', new Float32())] : []),
  ]);
}

function batchOf(columns: RowColumns, schema: Schema): RecordBatch {
  const { rowCount: length } = columns;
  const children: Data[] = [
    makeData({ type: new Int64(), length, nullCount: 0, data: columns.rowNumbers() }),
    makeData({ type: new Uint8(), length, nullCount: 0, data: columns.roles() }),
    makeData({ type: new Float64(), length, nullCount: 0, data: columns.times() }),
    ...columns.values().map(({ width, values }) => {
      const flat =
        values instanceof Int32Array
          ? makeData({ type: new Int32(), length: values.length, nullCount: 0, data: values })
          : makeData({ type: new Float32(), length: values.length, nullCount: 0, data: values });
      if (width === null) return flat;
      const type = new FixedSizeList(width, new Field('item', new Int32(), false));
      // Only bags have a width, and bags hold int32.
      return makeData({ type, length, nullCount: 0, child: flat as Data<Int32> });
    }),
  ];
  return new RecordBatch(
    schema,
    makeData({ type: new Struct(schema.fields), length, nullCount: 0, children }),
  );
}

export type StoreFile = StoreManifest['files'][number];

class ArrowFile {
  byteCount = 0;
  private readonly writer = new RecordBatchFileWriter();
  private readonly hash: Hash = createHash('sha256');
  private readonly stream: WriteStream;
  private readonly done: Promise<void>;
  private failure: unknown = null;

  constructor(
    private readonly folder: string,
    private readonly name: string,
    schema: Schema,
  ) {
    this.stream = createWriteStream(join(folder, name), { highWaterMark: 1 << 20 });
    this.stream.on('error', (error) => (this.failure ??= error));
    this.writer.reset(undefined, schema);
    this.done = this.drain();
    this.done.catch((error: unknown) => (this.failure ??= error));
  }

  private async drain(): Promise<void> {
    // The writer declares `any`; it yields the bytes of the file.
    for await (const bytes of this.writer as AsyncIterable<Uint8Array>) {
      if (this.failure !== null) return;
      this.hash.update(bytes);
      this.byteCount += bytes.byteLength;
      // Copied, since the writer's chunk may be a view of a batch that is filled again.
      if (!this.stream.write(Buffer.from(bytes))) await this.drained();
    }
  }

  /** Resolves when the disk has accepted what was written, or has failed. */
  private drained(): Promise<void> {
    const { stream } = this;
    return new Promise((resolve) => {
      const done = (): void => {
        stream.off('drain', done);
        stream.off('close', done);
        resolve();
      };
      stream.on('drain', done);
      stream.on('close', done);
    });
  }

  /** @throws QianmoError of kind `environment` if the disk refuses. */
  async write(batch: RecordBatch): Promise<void> {
    this.check();
    this.writer.write(batch);
    // Lets the drain take the batch's chunks before the next batch is made.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.stream.writableNeedDrain && this.failure === null) await this.drained();
    this.check();
  }

  async finish(): Promise<StoreFile> {
    this.writer.close();
    await this.done;
    await new Promise<void>((resolve) => this.stream.end(() => resolve()));
    this.check();
    return { name: this.name, byteCount: this.byteCount, sha256: this.hash.digest('hex') };
  }

  abandon(): void {
    this.failure ??= new Error('abandoned');
    this.writer.close();
    this.stream.destroy();
  }

  private check(): void {
    if (this.failure !== null)
      throw systemFailure(this.failure, 'writing the task store', join(this.folder, this.name));
  }
}

export type ColumnKind = 'int' | 'float' | { readonly bag: number };

/**
 * Copies `count` rows of a source column, from row `from` on, to the rows from `toRow` on. The array holds as
 * many numbers a row as the column does.
 */
export type CopyRows = (
  to: Float64Array | Int32Array | Float32Array,
  toRow: number,
  from: number,
  count: number,
) => void;

/** The columns of rows to append: their numbers in the logs, their times and their values. */
export interface SourceColumns {
  readonly row: CopyRows;
  readonly time: CopyRows;
  readonly values: readonly CopyRows[];
}

interface ValueColumn {
  values: Int32Array | Float32Array;
  readonly width: number;
  readonly isBag: boolean;
}

/** The numbers that a row has in a column. */
export function widthOf(kind: ColumnKind): number {
  return typeof kind === 'object' ? kind.bag : 1;
}

const ROWS_AT_FIRST = 8192;
const HALF_RANGE = 2 ** 32;

export class RowColumns {
  rowCount = 0;
  private capacity = ROWS_AT_FIRST;
  private row = new Float64Array(ROWS_AT_FIRST);
  private role = new Uint8Array(ROWS_AT_FIRST);
  private time = new Float64Array(ROWS_AT_FIRST);
  private readonly columns: ValueColumn[];

  constructor(kinds: readonly ColumnKind[]) {
    this.columns = kinds.map((kind) => {
      const width = widthOf(kind);
      const values =
        kind === 'float' ? new Float32Array(ROWS_AT_FIRST) : new Int32Array(ROWS_AT_FIRST * width);
      return { values, width, isBag: typeof kind === 'object' };
    });
  }

  /** Appends `count` rows of the source, from its row `from` on. Their roles are set later. */
  append(source: SourceColumns, from: number, count: number): void {
    while (this.rowCount + count > this.capacity) this.grow();
    const toRow = this.rowCount;
    source.row(this.row, toRow, from, count);
    source.time(this.time, toRow, from, count);
    for (const [index, { values }] of this.columns.entries())
      at(source.values, index)(values, toRow, from, count);
    this.rowCount = toRow + count;
  }

  /** Makes the rows from `start` on a task: the first `supportRowCount` of them are support rows. */
  setRolesFrom(start: number, supportRowCount: number): void {
    this.role.fill(0, start, start + supportRowCount);
    this.role.fill(1, start + supportRowCount, this.rowCount);
  }

  /** Sorts the rows from `start` on by role, time and row. */
  sortFrom(start: number): void {
    const { row, role, time, rowCount } = this;
    const order = Array.from({ length: rowCount - start }, (_, n) => start + n).sort(
      (a, b) =>
        uint8At(role, a) - uint8At(role, b) ||
        float64At(time, a) - float64At(time, b) ||
        float64At(row, a) - float64At(row, b),
    );
    const permute = (values: Float64Array | Uint8Array | Int32Array | Float32Array, width = 1) => {
      const before = values.slice(start * width, rowCount * width);
      for (const [to, from] of order.entries())
        for (let place = 0; place < width; place += 1)
          values[(start + to) * width + place] = numberAt(before, (from - start) * width + place);
    };
    permute(row);
    permute(role);
    permute(time);
    for (const { values, width } of this.columns) permute(values, width);
  }

  clear(): void {
    this.rowCount = 0;
  }

  rowNumbers(): BigInt64Array {
    // Two halves of 32 bits: a conversion of each number to a bigint takes longer than all other columns.
    const halves = new Uint32Array(2 * this.rowCount);
    for (let n = 0; n < this.rowCount; n += 1) {
      const row = float64At(this.row, n);
      halves[2 * n] = row % HALF_RANGE;
      halves[2 * n + 1] = row / HALF_RANGE;
    }
    return new BigInt64Array(halves.buffer);
  }

  roles(): Uint8Array {
    return this.role.slice(0, this.rowCount);
  }

  times(): Float64Array {
    return this.time.slice(0, this.rowCount);
  }

  /** Copies of the columns in the order of the kinds. `width` is null for a column of single values. */
  values(): { width: number | null; values: Int32Array | Float32Array }[] {
    return this.columns.map(({ values, width, isBag }) => ({
      width: isBag ? width : null,
      values: values.slice(0, this.rowCount * width),
    }));
  }

  private grow(): void {
    this.capacity *= 2;
    const wider = <Values extends { set(from: Values): void }>(
      from: Values,
      to: Values,
    ): Values => {
      to.set(from);
      return to;
    };
    this.row = wider(this.row, new Float64Array(this.capacity));
    this.time = wider(this.time, new Float64Array(this.capacity));
    this.role = wider(this.role, new Uint8Array(this.capacity));
    for (const column of this.columns)
      column.values =
        column.values instanceof Int32Array
          ? wider(column.values, new Int32Array(this.capacity * column.width))
          : wider(column.values, new Float32Array(this.capacity * column.width));
  }
}
