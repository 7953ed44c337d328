/**
 * Arrow files: the library, and the check of a file's metadata before the library reads it.
 *
 * The library comes from the one file that the package has next to its hundred and fifty modules, which take a tenth of
 * a second of the processor to load: as long as a short command computes. It trusts every count and place in a file:
 * from a damaged one it may not return for hours, or ask for gigabytes. After the check its work and memory are bounded
 * by the size of the file.
 *
 * A file is `ARROW1`, messages, a footer with the places of the messages, the length of the footer, `ARROW1`.
 * Messages and footer are FlatBuffers: https://arrow.apache.org/docs/format/Columnar.html
 */

import { createRequire } from 'node:module';
import type * as apacheArrow from 'apache-arrow';
import type { FileHandle } from 'node:fs/promises';

const arrow = createRequire(import.meta.url)('apache-arrow/Arrow.esnext.min') as typeof apacheArrow;

export const {
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int32,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchReader,
  Schema,
  Struct,
  Table,
  tableFromIPC,
  tableToIPC,
  Uint8,
  Utf8,
  vectorFromArray,
} = arrow;

export type Field = apacheArrow.Field;
export type Float64 = apacheArrow.Float64;
export type Int32 = apacheArrow.Int32;
export type RecordBatch = apacheArrow.RecordBatch;
export type Schema = apacheArrow.Schema;
export type Utf8 = apacheArrow.Utf8;
export type { AsyncRecordBatchFileReader, Data, Vector } from 'apache-arrow';

const INT32_BYTE_COUNT = 4;
const VTABLE_HEAD_BYTE_COUNT = 4;
/** Tables may be reached on several ways; more than this many would be a trap. */
const VISITS_MAX = 100_000;

class FlatTable {
  readonly #view: DataView;
  readonly #start: number;
  readonly #vtable: number;
  readonly #visits: { count: number };

  private constructor(view: DataView, start: number, visits: { count: number }) {
    visits.count += 1;
    if (visits.count > VISITS_MAX) throw new Error('its metadata has too many tables');
    this.#view = view;
    this.#visits = visits;
    this.#start = start;
    this.#vtable = start - int32(view, start);
    // The vtable names its own length first.
    uint16(view, this.#vtable);
  }

  /** @throws Error if the table lies outside of the bytes, as every method does for its part. */
  static rootOf(bytes: Uint8Array): FlatTable {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new FlatTable(view, int32(view, 0), { count: 0 });
  }

  table(field: number): FlatTable | null {
    const place = this.#placeOf(field);
    return place === null ? null : this.#tableAt(place);
  }

  tables(field: number): FlatTable[] {
    const vector = this.#vectorOf(field, INT32_BYTE_COUNT);
    return Array.from({ length: vector.count }, (_, index) =>
      this.#tableAt(vector.start + index * INT32_BYTE_COUNT),
    );
  }

  structs(field: number, byteCount: number): DataView[] {
    const { start, count } = this.#vectorOf(field, byteCount);
    const { buffer, byteOffset } = this.#view;
    return Array.from(
      { length: count },
      (_, index) => new DataView(buffer, byteOffset + start + index * byteCount, byteCount),
    );
  }

  text(field: number): string {
    const { start, count } = this.#vectorOf(field, 1);
    const { buffer, byteOffset } = this.#view;
    return Buffer.from(buffer, byteOffset + start, count).toString('utf8');
  }

  /** 0 if absent. */
  uint8(field: number): number {
    const place = this.#placeOf(field);
    if (place === null) return 0;
    return this.#view.getUint8(checked(this.#view, place, 1));
  }

  /** 0 if absent. Beyond 2^53 it is inexact. */
  int64(field: number): number {
    const place = this.#placeOf(field);
    if (place === null) return 0;
    return Number(this.#view.getBigInt64(checked(this.#view, place, 8), true));
  }

  /** Whether a table is absent, or a vector absent or without elements. */
  isEmpty(field: number): boolean {
    const place = this.#placeOf(field);
    return place === null || int32(this.#view, place + int32(this.#view, place)) === 0;
  }

  #placeOf(field: number): number | null {
    const entry = VTABLE_HEAD_BYTE_COUNT + 2 * field;
    if (entry >= uint16(this.#view, this.#vtable)) return null;
    const distance = uint16(this.#view, this.#vtable + entry);
    return distance === 0 ? null : this.#start + distance;
  }

  #tableAt(place: number): FlatTable {
    return new FlatTable(this.#view, place + int32(this.#view, place), this.#visits);
  }

  #vectorOf(field: number, elementByteCount: number): { start: number; count: number } {
    const place = this.#placeOf(field);
    if (place === null) return { start: 0, count: 0 };
    const vector = place + int32(this.#view, place);
    const count = int32(this.#view, vector);
    const start = vector + INT32_BYTE_COUNT;
    if (count < 0) throw new Error(`its metadata has a vector of ${count} elements`);
    checked(this.#view, start, count * elementByteCount);
    return { start, count };
  }
}

function checked(view: DataView, place: number, byteCount: number): number {
  if (place < 0 || place + byteCount > view.byteLength)
    throw new Error('its metadata points outside of itself');
  return place;
}

function int32(view: DataView, place: number): number {
  return view.getInt32(checked(view, place, INT32_BYTE_COUNT), true);
}

function uint16(view: DataView, place: number): number {
  return view.getUint16(checked(view, place, 2), true);
}

/** Where a record batch lies in the file. */
interface ArrowBlock {
  readonly start: number;
  readonly metadataByteCount: number;
  readonly bodyByteCount: number;
}

const MAGIC = 'ARROW1';
const HEAD_BYTE_COUNT = 8;
/** The length of the footer, and the magic behind it. */
const TAIL_BYTE_COUNT = 4 + MAGIC.length;
const BLOCK_BYTE_COUNT = 24;
const NODE_BYTE_COUNT = 16;
const BUFFER_BYTE_COUNT = 16;
const FIELD_DEPTH_MAX = 4;
const CONTINUATION = -1;

/** Numbers of the fields of the tables in Arrow's schemas File.fbs, Schema.fbs and Message.fbs. */
const FOOTER = { schema: 1, dictionaries: 2, recordBatches: 3, metadata: 4 } as const;
const SCHEMA = { fields: 1, metadata: 2, features: 3 } as const;
const FIELD = { name: 0, type: 3, dictionary: 4, children: 5, metadata: 6 } as const;
const MESSAGE = { headerType: 1, header: 2, bodyByteCount: 3, metadata: 4 } as const;
const BATCH = { rowCount: 0, nodes: 1, buffers: 2, compression: 3 } as const;
const RECORD_BATCH = 3;

/** Bytes of a file; fewer than asked for where the file ends. */
type ReadPart = (start: number, byteCount: number) => Uint8Array;

/** @throws Error if the bytes are not a whole Arrow IPC file. */
export function checkArrowBytes(bytes: Uint8Array): void {
  const part: ReadPart = (start, byteCount) => bytes.subarray(start, start + byteCount);
  const { start, byteCount } = footerPlace(
    part(0, HEAD_BYTE_COUNT),
    part(Math.max(0, bytes.byteLength - TAIL_BYTE_COUNT), TAIL_BYTE_COUNT),
    bytes.byteLength,
  );
  for (const block of blocksOf(part(start, byteCount), start))
    checkRecordBatch(part(block.start, block.metadataByteCount), block);
}

/** @throws Error if the file is not an Arrow IPC file. */
export async function checkedArrowBlocks(file: FileHandle): Promise<readonly ArrowBlock[]> {
  const { size } = await file.stat();
  const { start, byteCount } = footerPlace(
    await partOf(file, 0, HEAD_BYTE_COUNT),
    await partOf(file, Math.max(0, size - TAIL_BYTE_COUNT), TAIL_BYTE_COUNT),
    size,
  );
  return blocksOf(await partOf(file, start, byteCount), start);
}

/** @throws Error if the record batch at this place is not whole. */
export async function checkArrowBlock(file: FileHandle, block: ArrowBlock): Promise<void> {
  checkRecordBatch(await partOf(file, block.start, block.metadataByteCount), block);
}

async function partOf(file: FileHandle, start: number, byteCount: number): Promise<Uint8Array> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(byteCount), 0, byteCount, start);
  return buffer.subarray(0, bytesRead);
}

function footerPlace(
  head: Uint8Array,
  tail: Uint8Array,
  fileByteCount: number,
): { start: number; byteCount: number } {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
  const isWhole = fileByteCount >= HEAD_BYTE_COUNT + TAIL_BYTE_COUNT;
  if (
    !isWhole ||
    text(head.subarray(0, MAGIC.length)) !== MAGIC ||
    text(tail.subarray(4)) !== MAGIC
  )
    throw new Error('it is not a whole Arrow IPC file');
  const byteCount = Buffer.from(tail).readInt32LE(0);
  const start = fileByteCount - TAIL_BYTE_COUNT - byteCount;
  if (byteCount <= 0 || start < HEAD_BYTE_COUNT)
    throw new Error(`its footer cannot have ${byteCount} bytes`);
  return { start, byteCount };
}

/** @param end where the footer begins; every block ends before it */
function blocksOf(footer: Uint8Array, end: number): ArrowBlock[] {
  const root = FlatTable.rootOf(footer);
  const schema = root.table(FOOTER.schema);
  if (schema === null) throw new Error('it has no schema');
  checkFields(schema.tables(SCHEMA.fields), 0);
  refuse(schema, SCHEMA.metadata, 'metadata of the schema');
  refuse(schema, SCHEMA.features, 'features of the schema');
  refuse(root, FOOTER.metadata, 'metadata of the footer');
  if (root.structs(FOOTER.dictionaries, BLOCK_BYTE_COUNT).length > 0)
    throw new Error('it has dictionaries, which no task store has');
  return root.structs(FOOTER.recordBatches, BLOCK_BYTE_COUNT).map((block) => {
    const start = Number(block.getBigInt64(0, true));
    const metadataByteCount = block.getInt32(8, true);
    const bodyByteCount = Number(block.getBigInt64(16, true));
    const isInside =
      start >= HEAD_BYTE_COUNT &&
      metadataByteCount > 0 &&
      bodyByteCount >= 0 &&
      start + metadataByteCount + bodyByteCount <= end;
    if (!isInside) throw new Error('a record batch lies outside of the file');
    return { start, metadataByteCount, bodyByteCount };
  });
}

function checkFields(fields: readonly FlatTable[], depth: number): void {
  if (depth > FIELD_DEPTH_MAX) throw new Error('its fields are nested too deep');
  for (const field of fields) {
    field.text(FIELD.name);
    field.table(FIELD.type);
    refuse(field, FIELD.dictionary, 'a dictionary');
    refuse(field, FIELD.metadata, 'metadata of a field');
    checkFields(field.tables(FIELD.children), depth + 1);
  }
}

function checkRecordBatch(metadata: Uint8Array, { bodyByteCount }: ArrowBlock): void {
  const view = Buffer.from(metadata.buffer, metadata.byteOffset, metadata.byteLength);
  const isLong = view.length >= 8 && view.readInt32LE(0) === CONTINUATION;
  if (!isLong || view.readInt32LE(4) !== view.length - 8)
    throw new Error('the length of a message is not what the footer says');
  const message = FlatTable.rootOf(metadata.subarray(8));
  const batch = message.table(MESSAGE.header);
  if (message.uint8(MESSAGE.headerType) !== RECORD_BATCH || batch === null)
    throw new Error('a message is not a record batch');
  if (message.int64(MESSAGE.bodyByteCount) !== bodyByteCount)
    throw new Error('the body of a message has another size than the footer says');
  refuse(message, MESSAGE.metadata, 'metadata of a message');
  refuse(batch, BATCH.compression, 'compression');
  // Every value of a task store takes at least a byte.
  const lengths = batch
    .structs(BATCH.nodes, NODE_BYTE_COUNT)
    .flatMap((node) => [node.getBigInt64(0, true), node.getBigInt64(8, true)])
    .map(Number);
  for (const length of [batch.int64(BATCH.rowCount), ...lengths])
    if (length < 0 || length > bodyByteCount)
      throw new Error(`${length} values cannot be in ${bodyByteCount} bytes`);
  for (const buffer of batch.structs(BATCH.buffers, BUFFER_BYTE_COUNT)) {
    const start = Number(buffer.getBigInt64(0, true));
    const byteCount = Number(buffer.getBigInt64(8, true));
    if (start < 0 || byteCount < 0 || start + byteCount > bodyByteCount)
      throw new Error('a column lies outside of its record batch');
  }
}

/** The stores have no such part, so that what reads it need not be trusted. */
function refuse(table: FlatTable, field: number, what: string): void {
  if (!table.isEmpty(field)) throw new Error(`it has ${what}, which no task store has`);
}
