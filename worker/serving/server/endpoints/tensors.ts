/**
 * Tensors of the Open Inference Protocol, version 2: in JSON, or raw behind the JSON (the binary tensor
 * extension), little-endian, texts each with their length in four bytes before them.
 */

import { z } from 'zod';
import { at } from '../../../../shared/base/arrays.js';
import { jsonOf, parsedBy } from '../json-body.js';
import { RefusedRequest } from '../refused-request.js';
import { CANDIDATES_MAX, COLUMNS_MAX, LIST_LENGTH_MAX } from '../server-limits.js';

type Element = string | number | boolean;

const DATATYPES = {
  BOOL: { byteCount: 1, read: (view: DataView, place: number) => view.getUint8(place) !== 0 },
  INT8: { byteCount: 1, read: (view: DataView, place: number) => view.getInt8(place) },
  INT16: { byteCount: 2, read: (view: DataView, place: number) => view.getInt16(place, true) },
  INT32: { byteCount: 4, read: (view: DataView, place: number) => view.getInt32(place, true) },
  INT64: {
    byteCount: 8,
    read: (view: DataView, place: number) => wholeOf(view.getBigInt64(place, true)),
  },
  UINT8: { byteCount: 1, read: (view: DataView, place: number) => view.getUint8(place) },
  UINT16: { byteCount: 2, read: (view: DataView, place: number) => view.getUint16(place, true) },
  UINT32: { byteCount: 4, read: (view: DataView, place: number) => view.getUint32(place, true) },
  UINT64: {
    byteCount: 8,
    read: (view: DataView, place: number) => wholeOf(view.getBigUint64(place, true)),
  },
  FP32: { byteCount: 4, read: (view: DataView, place: number) => view.getFloat32(place, true) },
  FP64: { byteCount: 8, read: (view: DataView, place: number) => view.getFloat64(place, true) },
} as const;

/** As a text of its digits where a number does not hold them. */
function wholeOf(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

const datatype = z.enum([...Object.keys(DATATYPES), 'BYTES'] as [
  keyof typeof DATATYPES,
  ...(keyof typeof DATATYPES)[],
  'BYTES',
]);

const parameters = z.record(z.string(), z.unknown()).default({});

export const InferenceRequestSchema = z.strictObject({
  id: z.string().max(256).optional(),
  parameters,
  inputs: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(256),
        shape: z.array(z.int().nonnegative().max(CANDIDATES_MAX)).min(1).max(2),
        datatype,
        parameters,
        data: z
          .array(z.unknown())
          .max(CANDIDATES_MAX * LIST_LENGTH_MAX)
          .optional(),
      }),
    )
    .min(1)
    .max(COLUMNS_MAX),
  outputs: z
    .array(z.strictObject({ name: z.string(), parameters }))
    .max(16)
    .optional(),
});
export type InferenceRequest = z.output<typeof InferenceRequestSchema>;

export interface InputTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly elements: readonly Element[];
}

/**
 * @param headerByteCount bytes of the JSON; null where the whole body is JSON.
 * @throws RefusedRequest if the body is no request of the protocol.
 */
export function readInference(
  body: Buffer,
  headerByteCount: number | null,
): { readonly request: InferenceRequest; readonly inputs: readonly InputTensor[] } {
  if (headerByteCount !== null && headerByteCount > body.byteLength)
    throw wrong(
      'the JSON of the request is longer than its body',
      'Inference-Header-Content-Length',
    );
  const end = headerByteCount ?? body.byteLength;
  const request = parsedBy(InferenceRequestSchema, jsonOf(body.subarray(0, end)));
  let place = end;
  const inputs = request.inputs.map((input): InputTensor => {
    const { name, shape, datatype: type, data, parameters: own } = input;
    const count = shape.reduce((product, extent) => product * extent, 1);
    const size = own['binary_data_size'];
    if (typeof size === 'number' && Number.isInteger(size) && size >= 0) {
      if (data !== undefined) throw wrong('a tensor has data twice: in JSON and raw', name);
      const raw = body.subarray(place, place + size);
      place += size;
      if (raw.byteLength !== size) throw wrong('the raw data of a tensor is cut off', name);
      return { name, shape, elements: rawElements(raw, type, { name, count }) };
    }
    const elements: readonly unknown[] = (data ?? []).flat();
    if (elements.length !== count)
      throw wrong(`a tensor of shape [${shape.join(', ')}] has ${elements.length} elements`, name);
    return { name, shape, elements: elements.map((value) => elementOf(value, name)) };
  });
  if (place !== body.byteLength) throw wrong('there are bytes behind the last tensor', 'body');
  return { request, inputs };
}

function elementOf(value: unknown, name: string): Element {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return value;
  throw wrong('a tensor has an element that is no text, number or boolean', name);
}

function rawElements(
  raw: Buffer,
  type: z.output<typeof datatype>,
  { name, count }: { readonly name: string; readonly count: number },
): Element[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  if (type === 'BYTES') return rawTexts(raw, view, { name, count });
  const { byteCount, read } = DATATYPES[type];
  if (raw.byteLength !== count * byteCount)
    throw wrong(`the raw data of a tensor has ${raw.byteLength} bytes`, name);
  return Array.from({ length: count }, (_, place) => read(view, place * byteCount));
}

function rawTexts(
  raw: Buffer,
  view: DataView,
  { name, count }: { readonly name: string; readonly count: number },
): string[] {
  const texts: string[] = [];
  let place = 0;
  while (texts.length < count) {
    const length = place + 4 <= raw.byteLength ? view.getUint32(place, true) : Infinity;
    if (place + 4 + length > raw.byteLength) throw wrong('the texts of a tensor are cut off', name);
    texts.push(raw.toString('utf8', place + 4, place + 4 + length));
    place += 4 + length;
  }
  if (place !== raw.byteLength) throw wrong('there are bytes behind the last text', name);
  return texts;
}

/** The value of each row: an element, or a list of them without empty texts at its end. */
export function rowsOf({ shape, elements }: InputTensor): (Element | null | Element[])[] {
  const [count = 0, width] = shape;
  if (width === undefined) return elements.map((value) => (Number.isNaN(value) ? null : value));
  return Array.from({ length: count }, (_, row) => {
    const list = elements.slice(row * width, (row + 1) * width);
    while (list.length > 0 && at(list, list.length - 1) === '') list.pop();
    return list;
  });
}

export function wrong(what: string, where: string): RefusedRequest {
  return new RefusedRequest({
    ...{ reason: 'wrong-value', what, where },
    cure: 'send a request of the Open Inference Protocol; infra/docs/serving.md describes the tensors',
  });
}
