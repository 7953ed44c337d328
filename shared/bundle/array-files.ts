/**
 * Arrays of a bundle as files: written content-addressed, at most so many bytes a file, and read back
 * with every file checked against its digest before its first byte is used.
 */

import { at } from '../base/arrays.js';
import { type QianmoError, errorOf } from '../base/errors.js';
import { type BlobRef, blobKeyOf, blobRefOf } from '../storage/blob-store.js';
import type { ObjectStore } from '../storage/object-store.js';
import { elementCountOf } from '../tensors/named-tensors.js';
import type { BundleArray } from './bundle-manifest.js';

type ArrayValues = Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;
type ArrayType = BundleArray['type'];

/** Bytes of a file of an array, at most, unless one row has more. */
export const ARRAY_FILE_BYTE_COUNT = 2 ** 29;
/**
 * The files that are written of an array have a multiple of it where a row allows, all but the last: the
 * largest page in use. They can be mapped one after the other and read as one array.
 */
const MAPPED_ALIGNMENT = 65_536;
/** One array in memory; larger ones are read file by file. */
const JOINED_BYTE_COUNT_MAX = 2 ** 32 - 1;

const BYTES_PER_ELEMENT: Readonly<Record<ArrayType, number>> = {
  ...{ F32: 4, F64: 8, I32: 4, U32: 4, U8: 1 },
};

/** Stores a file and returns its reference. */
export type PutFile = (bytes: Uint8Array) => Promise<BlobRef>;
/** The bytes of the files of an array, in memory or mapped. */
export type ReadFiles = (files: readonly BlobRef[]) => Promise<readonly Uint8Array[]>;

export interface NamedArray {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: ArrayValues;
}

/** Writes an array in files of whole rows. */
export async function writeArray(
  { name, shape, values }: NamedArray,
  put: PutFile,
  fileByteCountMax = ARRAY_FILE_BYTE_COUNT,
): Promise<BundleArray> {
  if (elementCountOf(shape) !== values.length)
    throw new Error(`${name} has ${values.length} elements, not [${shape.join(', ')}]`);
  const rowByteCount = elementCountOf(shape.slice(1)) * values.BYTES_PER_ELEMENT;
  const rowsPerFile = rowsPerFileOf(Math.max(1, rowByteCount), fileByteCountMax);
  const files: BlobRef[] = [];
  const fileByteCount = rowsPerFile * rowByteCount;
  for (let start = 0; start < values.byteLength; start += fileByteCount) {
    const length = Math.min(fileByteCount, values.byteLength - start);
    files.push(await put(new Uint8Array(values.buffer, values.byteOffset + start, length)));
  }
  return { name, type: typeOf(values), shape: [...shape], files };
}

/** Writes further rows of an array in files behind those that it has. */
export async function writeRowsBehind(
  before: BundleArray | undefined,
  rows: NamedArray,
  put: PutFile,
): Promise<BundleArray> {
  const written = await writeArray(rows, put);
  if (before === undefined) return written;
  const shape = [at(before.shape, 0) + at(rows.shape, 0), ...rows.shape.slice(1)];
  return { ...written, shape, files: [...before.files, ...written.files] };
}

function rowsPerFileOf(rowByteCount: number, fileByteCountMax: number): number {
  const rowCount = Math.max(1, Math.floor(fileByteCountMax / rowByteCount));
  // The rows that end where a page does: a power of two.
  let alignedRowCount = 1;
  while ((alignedRowCount * rowByteCount) % MAPPED_ALIGNMENT !== 0) alignedRowCount *= 2;
  return rowCount < alignedRowCount ? rowCount : rowCount - (rowCount % alignedRowCount);
}

function typeOf(values: ArrayValues): ArrayType {
  if (values instanceof Float32Array) return 'F32';
  if (values instanceof Float64Array) return 'F64';
  if (values instanceof Int32Array) return 'I32';
  return values instanceof Uint32Array ? 'U32' : 'U8';
}

/** Reads files of a bundle's object store. */
export function filesOf(store: ObjectStore): ReadFiles {
  return async (files) => {
    const read: Uint8Array[] = [];
    for (const file of files) read.push(await readFileOf(store, file));
    return read;
  };
}

/** @throws QianmoError of kind `data` if the file is missing, truncated or changed. */
export async function readFileOf(store: ObjectStore, file: BlobRef): Promise<Uint8Array> {
  const key = blobKeyOf(file);
  const where = `${store.address}/${key}`;
  const object = await store.get(key, file.byteCount);
  if (object === null) throw damagedFile(where, file, 'no such object');
  const found = blobRefOf(object.bytes);
  if (found.sha256 === file.sha256 && found.byteCount === file.byteCount) return object.bytes;
  throw damagedFile(where, file, `${found.byteCount} bytes with sha256 ${found.sha256}`);
}

export function damagedFile(where: string, file: BlobRef, found: string): QianmoError {
  return errorOf('data', 'a file of the bundle is missing, truncated or changed', {
    where,
    expected: `${file.byteCount} bytes with sha256 ${file.sha256}`,
    found,
    cure: 'restore the object from a copy, export the run again, or roll the label back',
  });
}

/** The arrays of a manifest by name, read as they are asked for. */
export class BundleArrays {
  readonly #arrays: ReadonlyMap<string, BundleArray>;
  readonly #read: ReadFiles;
  readonly #where: string;

  constructor(arrays: readonly BundleArray[], read: ReadFiles, where: string) {
    this.#arrays = new Map(arrays.map((array) => [array.name, array]));
    this.#read = read;
    this.#where = where;
  }

  /** The files of an array in order, each of whole rows. */
  files(name: string, type: ArrayType, shape: readonly number[]): Promise<readonly Uint8Array[]> {
    return this.#read(this.#demand(name, type, shape).files);
  }

  /** The extents of an array whose length only the manifest knows. */
  shapeOf(name: string): readonly number[] {
    const array = this.#arrays.get(name);
    if (array === undefined) throw this.#unfit(name, 'none');
    return array.shape;
  }

  float32(name: string, shape: readonly number[]): Promise<Float32Array> {
    return this.#values(name, 'F32', shape, Float32Array);
  }

  float64(name: string, shape: readonly number[]): Promise<Float64Array> {
    return this.#values(name, 'F64', shape, Float64Array);
  }

  int32(name: string, shape: readonly number[]): Promise<Int32Array> {
    return this.#values(name, 'I32', shape, Int32Array);
  }

  uint32(name: string, shape: readonly number[]): Promise<Uint32Array> {
    return this.#values(name, 'U32', shape, Uint32Array);
  }

  uint8(name: string, shape: readonly number[]): Promise<Uint8Array> {
    return this.#values(name, 'U8', shape, Uint8Array);
  }

  async #values<Values>(
    name: string,
    type: ArrayType,
    shape: readonly number[],
    of: new (buffer: ArrayBufferLike, byteOffset: number, length: number) => Values,
  ): Promise<Values> {
    const bytes = joinedFiles(await this.files(name, type, shape), name);
    const size = BYTES_PER_ELEMENT[type];
    // A view must start at a multiple of its element's size.
    const { buffer, byteOffset } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
    return new of(buffer, byteOffset, bytes.byteLength / size);
  }

  #demand(name: string, type: ArrayType, shape: readonly number[]): BundleArray {
    const array = this.#arrays.get(name);
    if (array === undefined) throw this.#unfit(name, 'none');
    const described = `${array.type} [${array.shape.join(', ')}]`;
    const expected = `${type} [${shape.join(', ')}]`;
    if (described !== expected) throw this.#unfit(name, described, expected);
    const byteCount = array.files.reduce((sum, file) => sum + file.byteCount, 0);
    const byteCountOfShape = elementCountOf(shape) * BYTES_PER_ELEMENT[type];
    if (byteCount === byteCountOfShape) return array;
    throw this.#unfit(name, `files of ${byteCount} bytes`, `${byteCountOfShape} bytes`);
  }

  #unfit(name: string, found: string, expected = 'such an array'): QianmoError {
    return errorOf('data', `the manifest of the bundle does not fit its model: array ${name}`, {
      where: this.#where,
      expected,
      found,
      cure: 'export the run again with `qianmo export`',
    });
  }
}

/** One array over files that lie one after the other in memory, and else a copy. */
export function joinedFiles(files: readonly Uint8Array[], name: string): Uint8Array {
  const [only] = files;
  if (only !== undefined && files.length === 1) return only;
  const byteCount = files.reduce((sum, { byteLength }) => sum + byteLength, 0);
  if (only !== undefined && areInOrder(files) && byteCount <= JOINED_BYTE_COUNT_MAX)
    return new Uint8Array(only.buffer, only.byteOffset, byteCount);
  if (byteCount > JOINED_BYTE_COUNT_MAX)
    throw errorOf('environment', `the array ${name} is too large to be read into memory at once`, {
      expected: `at most ${JOINED_BYTE_COUNT_MAX} bytes`,
      found: `${byteCount} bytes`,
      cure: 'train with fewer rows in this table: set hashBuckets or raise countMin',
    });
  const bytes = new Uint8Array(byteCount);
  let start = 0;
  for (const file of files) {
    bytes.set(file, start);
    start += file.byteLength;
  }
  return bytes;
}

/** Returns whether the files lie one after the other in memory, as where they are mapped together. */
function areInOrder(files: readonly Uint8Array[]): boolean {
  return files.every((file, place) => {
    const before = files[place - 1];
    return (
      before === undefined ||
      (before.buffer === file.buffer && before.byteOffset + before.byteLength === file.byteOffset)
    );
  });
}
