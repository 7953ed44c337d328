/**
 * The byte form of tensors: the safetensors layout (8-byte little-endian header length, JSON
 * header, raw little-endian values), so that other tools read a blob without our code.
 */

import { z } from 'zod';
import { unfilledBytes } from '../base/arrays.js';
import { type QianmoError, errorOf } from '../base/errors.js';
import { elementCountOf, type DenseTensor, type TensorLayout } from './named-tensors.js';

type TensorValues = Float32Array | Float64Array | Int32Array | Uint8Array;

export interface CodedTensor {
  readonly shape: readonly number[];
  readonly values: TensorValues;
}

const HEADER_BYTE_COUNT_MAX = 16 * 1024 * 1024;
/** A name for free text of other writers, and a name that a JSON object cannot have. */
const METADATA_NAME = '__metadata__';
const RESERVED_NAMES: ReadonlySet<string> = new Set([METADATA_NAME, '__proto__']);

const HeaderEntrySchema = z.strictObject({
  dtype: z.enum(['F32', 'F64', 'I32', 'U8']),
  shape: z.array(z.int().nonnegative()),
  data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
});
const HeaderSchema = z.record(z.string(), HeaderEntrySchema);
type Dtype = z.infer<typeof HeaderEntrySchema>['dtype'];

function dtypeOf(values: TensorValues): Dtype {
  if (values instanceof Float32Array) return 'F32';
  if (values instanceof Float64Array) return 'F64';
  return values instanceof Int32Array ? 'I32' : 'U8';
}

/** Encodes in map order; equal maps give equal bytes. */
export function encodeTensors(tensors: ReadonlyMap<string, CodedTensor>): Uint8Array {
  const { bytes, valuesStart } = headed(
    [...tensors].map(([name, { shape, values }]) => {
      return { name, dtype: dtypeOf(values), shape, byteCount: values.byteLength };
    }),
  );
  let offset = valuesStart;
  for (const { values } of tensors.values()) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
    offset += values.byteLength;
  }
  return bytes;
}

/**
 * The encoding of one float32 tensor, and a view of its values, all of which the caller writes. That saves the copy
 * that `encodeTensors` makes.
 */
export function encodableTensor(
  name: string,
  shape: readonly number[],
): { readonly bytes: Uint8Array; readonly values: Float32Array } {
  const length = elementCountOf(shape);
  const byteCount = length * Float32Array.BYTES_PER_ELEMENT;
  const { bytes, valuesStart } = headed([{ name, dtype: 'F32', shape, byteCount }]);
  return { bytes, values: new Float32Array(bytes.buffer, valuesStart, length) };
}

interface HeaderLine {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly byteCount: number;
}

/** The number of bytes of such an encoding, where all values take four bytes. */
export function encodedByteCountOf(layout: TensorLayout): number {
  const lines = [...layout].map(([name, { shape }]): HeaderLine => {
    const byteCount = elementCountOf(shape) * Float32Array.BYTES_PER_ELEMENT;
    // The names of all types that take four bytes are of one length.
    return { name, dtype: 'F32', shape, byteCount };
  });
  const { valuesStart, valueByteCount } = headerOf(lines);
  return valuesStart + valueByteCount;
}

/** The header, and room for the values behind it. The bytes start their buffer. */
function headed(lines: readonly HeaderLine[]): { bytes: Uint8Array; valuesStart: number } {
  const { json, valuesStart, valueByteCount } = headerOf(lines);
  const bytes = unfilledBytes(valuesStart + valueByteCount);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(valuesStart - 8), true);
  bytes.fill(0x20, 8, valuesStart);
  bytes.set(json, 8);
  return { bytes, valuesStart };
}

function headerOf(lines: readonly HeaderLine[]) {
  const entries: string[] = [];
  let valueByteCount = 0;
  for (const { name, dtype, shape, byteCount } of lines) {
    if (RESERVED_NAMES.has(name)) throw new Error(`a tensor cannot be named ${name}`);
    const end = valueByteCount + byteCount;
    const entry = { dtype, shape, data_offsets: [valueByteCount, end] };
    // Written as text, since an object would move names such as "7" to the front.
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    valueByteCount = end;
  }
  const json = Buffer.from(`{${entries.join(',')}}`);
  // Values start on an 8-byte boundary so that a reader can view them in place.
  return { json, valuesStart: 8 + Math.ceil(json.length / 8) * 8, valueByteCount };
}

/**
 * Decodes what `encodeTensors` wrote; values are copied, so the bytes may be reused.
 *
 * @throws QianmoError of kind `data` if the bytes are truncated or not in the layout.
 */
export function decodeTensors(bytes: Uint8Array, where: string): Map<string, CodedTensor> {
  const tensors = viewTensors(bytes, where);
  for (const [name, { shape, values }] of tensors)
    tensors.set(name, { shape, values: values.slice() });
  return tensors;
}

/**
 * Decodes what `encodeTensors` wrote, as views on the bytes where their place in memory allows it.
 * The values are valid as long as the bytes are not overwritten.
 *
 * @throws QianmoError of kind `data` if the bytes are truncated or not in the layout.
 */
export function viewTensors(bytes: Uint8Array, where: string): Map<string, CodedTensor> {
  const malformed = (found: string): QianmoError =>
    errorOf('data', 'these bytes are not tensors in the safetensors layout', {
      where,
      found,
      cure: 'the object was truncated or overwritten: restore it, or start from another checkpoint',
    });
  if (bytes.byteLength < 8) throw malformed(`${bytes.byteLength} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerByteCount = Number(view.getBigUint64(0, true));
  const valuesStart = 8 + headerByteCount;
  if (headerByteCount > HEADER_BYTE_COUNT_MAX || valuesStart > bytes.byteLength)
    throw malformed(`a header of ${headerByteCount} bytes in ${bytes.byteLength} bytes`);

  const header = parseHeader(bytes.subarray(8, valuesStart), malformed);
  const tensors = new Map<string, CodedTensor>();
  let nextStart = 0;
  for (const [name, { dtype, shape, data_offsets: offsets }] of inOrderOfValues(header)) {
    const [start, end] = offsets;
    if (start !== nextStart || start > end || valuesStart + end > bytes.byteLength)
      throw malformed(`${name} in bytes ${start} to ${end} of ${bytes.byteLength - valuesStart}`);
    nextStart = end;
    const values = valuesFrom(dtype, bytes.subarray(valuesStart + start, valuesStart + end));
    if (values === null || values.length !== elementCountOf(shape))
      throw malformed(`${name} of shape [${shape.join(', ')}] in ${end - start} bytes`);
    tensors.set(name, { shape, values });
  }
  if (valuesStart + nextStart !== bytes.byteLength)
    throw malformed(`${bytes.byteLength - valuesStart - nextStart} bytes that belong to no tensor`);
  return tensors;
}

/** The tensors if all of them are 32-bit floats, else null. */
export function floatsOf(
  tensors: ReadonlyMap<string, CodedTensor>,
): Map<string, DenseTensor> | null {
  const floats = new Map<string, DenseTensor>();
  for (const [name, { shape, values }] of tensors) {
    if (!(values instanceof Float32Array)) return null;
    floats.set(name, { shape, values });
  }
  return floats;
}

type Header = z.infer<typeof HeaderSchema>;

/** The order of encoding; the layout leaves no gap between values. */
function inOrderOfValues(header: Header): [string, Header[string]][] {
  return Object.entries(header).sort(
    ([, { data_offsets: first }], [, { data_offsets: second }]) =>
      first[0] - second[0] || first[1] - second[1],
  );
}

function parseHeader(json: Uint8Array, malformed: (found: string) => QianmoError): Header {
  let header: unknown;
  try {
    header = JSON.parse(Buffer.from(json).toString('utf8'));
  } catch {
    throw malformed('a header that is not JSON');
  }
  if (typeof header === 'object' && header !== null) Reflect.deleteProperty(header, METADATA_NAME);
  const parsed = HeaderSchema.safeParse(header);
  if (!parsed.success) throw malformed(z.prettifyError(parsed.error));
  return parsed.data;
}

/**
 * A view of the bytes, or of a copy where they do not start on a boundary of the element size. Null if
 * they are not a whole number of elements.
 */
function valuesFrom(dtype: Dtype, bytes: Uint8Array): TensorValues | null {
  switch (dtype) {
    case 'F32':
      return viewOf(Float32Array, bytes);
    case 'F64':
      return viewOf(Float64Array, bytes);
    case 'I32':
      return viewOf(Int32Array, bytes);
    case 'U8':
      return viewOf(Uint8Array, bytes);
  }
}

interface TypedArrayConstructor<Values> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): Values;
}

function viewOf<Values>(of: TypedArrayConstructor<Values>, bytes: Uint8Array): Values | null {
  const size = of.BYTES_PER_ELEMENT;
  if (bytes.byteLength % size !== 0) return null;
  // Not slice(), which for a Buffer is a view into a shared pool.
  const { buffer, byteOffset } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new of(buffer, byteOffset, bytes.byteLength / size);
}
