/**
 * Requests in binary. Requests and answers have one layout, little-endian:
 *
 *   bytes 0-3    the length of the header (unsigned)
 *   from 4 on    the header: JSON in UTF-8
 *   then         arrays in the order of the header, each from the next multiple of 8 on
 *
 * A column of texts is `[count + 1]` offsets (unsigned, 32 bits) into the bytes that follow them. The header of a request has
 * the fields that bodies in JSON have, and names the arrays: "adgroup", "bid", "pacing", then the features in the order of their
 * list.
 *
 *   {"context": {...}, "count": 2, "columns":
 *     {"adgroup": "hash", "bid": "float64", "features": [["brand", "text"], ["price", "float32"]]}}
 */

import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { numberAt, uint32At, uint8At } from '../../../shared/base/arrays.js';
import {
  NULL_START,
  valuesOf,
  type CandidateColumn,
  type HashesColumn,
  type TextsColumn,
} from '../candidate-columns.js';
import {
  BID_MAX,
  bodyOf,
  commonFields,
  fieldsReader,
  isList,
  type RankingBody,
} from './ranking-body.js';
import { RefusedRequest } from './refused-request.js';
import { CANDIDATES_MAX, COLUMNS_MAX, TEXT_LENGTH_MAX } from './server-limits.js';

export const BINARY_TYPE = 'application/vnd.qianmo.ranking';

export const LENGTH_BYTE_COUNT = 4;
const ALIGNMENT = 8;

export function aligned(place: number): number {
  return Math.ceil(place / ALIGNMENT) * ALIGNMENT;
}

const amounts = z.enum(['float64', 'float32']);
const HeaderSchema = z.strictObject({
  ...commonFields,
  count: z.int().min(0).max(CANDIDATES_MAX),
  columns: z.strictObject({
    /** Keys, or their 64-bit hashes (`key-hash.ts`, seed 0). */
    adgroup: z.enum(['hash', 'text']),
    bid: amounts.optional(),
    pacing: amounts.optional(),
    /** A list in place of a type is the column itself, for bags for example. */
    features: z
      .array(
        z.tuple([
          z.string(),
          z.union([
            z.enum(['text', 'id', 'float64', 'float32', 'int32']),
            z.custom<readonly unknown[]>(isList, 'expected a type, or a list of values'),
          ]),
        ]),
      )
      .max(COLUMNS_MAX)
      .default([]),
  }),
});

const readHeader = fieldsReader(HeaderSchema);

const ARRAYS = { float64: Float64Array, float32: Float32Array, int32: Int32Array } as const;

/** @throws RefusedRequest if the bytes are no such request. */
export function parseBinaryBody(received: Buffer): RankingBody {
  // Arrays are read where they lie.
  const body = received.byteOffset % 8 === 0 ? received : Buffer.from(new Uint8Array(received));
  const headerEnd =
    body.length < LENGTH_BYTE_COUNT ? Infinity : LENGTH_BYTE_COUNT + body.readUInt32LE(0);
  if (headerEnd > body.length)
    throw malformed('the header ends behind the body', 'a length of the header, then the header');
  const header = readHeader(body.subarray(LENGTH_BYTE_COUNT, headerEnd));
  const { count, columns, bundle } = header.shared;
  if (bundle === null && columns.features.some(([, type]) => type === 'id'))
    throw malformed('ids, and no bundle', 'the bundle whose dictionaries they are of');
  const arrays = new BinaryArrays(body, headerEnd, count);
  const adgroups =
    columns.adgroup === 'hash' ? arrays.hashes('adgroup') : arrays.texts('adgroup', false);
  const bids = arrays.amounts('bid', columns.bid);
  const pacings = arrays.amounts('pacing', columns.pacing);
  const features = new Map<string, CandidateColumn>();
  for (const [name, type] of columns.features) {
    if (features.has(name)) throw malformed(`the column "${name}" is there twice`, 'each once');
    features.set(name, arrays.column(name, type));
  }
  arrays.demandEnd();
  const keyTexts = (): readonly string[] | null =>
    // Texts that may be empty, but not null, are strings.
    adgroups.form === 'hashes' ? null : (valuesOf(adgroups) as readonly string[]);
  const candidateCount = count;
  return bodyOf(header, { candidateCount, adgroups, keyTexts, bids, pacings, features });
}

class BinaryArrays {
  readonly #body: Buffer;
  readonly #count: number;
  #end: number;

  constructor(body: Buffer, headerEnd: number, count: number) {
    this.#body = body;
    this.#end = headerEnd;
    this.#count = count;
  }

  hashes(name: string): HashesColumn {
    const start = this.#taken(8 * this.#count, name);
    return { form: 'hashes', words: this.#view(Uint32Array, start, 2 * this.#count) };
  }

  amounts(name: string, type: 'float64' | 'float32' | undefined): ArrayLike<number> | null {
    if (type === undefined) return null;
    const values = this.#numbers(name, type);
    for (let place = 0; place < values.length; place += 1) {
      const value = numberAt(values, place);
      if (value >= 0 && value <= BID_MAX) continue;
      throw new RefusedRequest({
        reason: 'wrong-value',
        what: `candidate ${place} has no ${name}`,
        where: `columns.${name}`,
        expected: `a number from 0 to ${BID_MAX}`,
        found: String(value),
      });
    }
    return values;
  }

  column(
    name: string,
    type: keyof typeof ARRAYS | 'text' | 'id' | readonly unknown[],
  ): CandidateColumn {
    if (type === 'text') return this.texts(name, true);
    if (type === 'id') {
      const start = this.#taken(Int32Array.BYTES_PER_ELEMENT * this.#count, name);
      return { form: 'ids', ids: this.#view(Int32Array, start, this.#count) };
    }
    if (typeof type === 'string') return { form: 'numbers', numbers: this.#numbers(name, type) };
    if (type.length === this.#count) return { form: 'values', values: type };
    throw malformed(`the column "${name}" has ${type.length} values`, `${this.#count} values`);
  }

  #numbers(name: string, type: keyof typeof ARRAYS): Float64Array | Float32Array | Int32Array {
    const start = this.#taken(ARRAYS[type].BYTES_PER_ELEMENT * this.#count, name);
    return this.#view<Float64Array | Float32Array | Int32Array>(ARRAYS[type], start, this.#count);
  }

  /** @param emptyIsNull an empty text is an empty value. */
  texts(name: string, emptyIsNull: boolean): TextsColumn {
    const count = this.#count;
    const offsets = this.#view(Uint32Array, this.#taken(4 * (count + 1), name), count + 1);
    const byteCount = uint32At(offsets, count);
    const first = this.#end;
    if (first + byteCount > this.#body.length) throw this.#tooShort(name);
    this.#end = first + byteCount;
    const bytes = this.#body.subarray(first, this.#end);
    if (!isUtf8(bytes)) throw malformed(`the column "${name}" is not UTF-8`, 'texts in UTF-8');
    const spans = new Uint32Array(2 * count);
    let end = 0;
    for (let place = 0; place < count; place += 1) {
      const start = uint32At(offsets, place);
      const next = uint32At(offsets, place + 1);
      if (start !== end || next < start || next - start > TEXT_LENGTH_MAX || splits(bytes, next))
        throw malformed(
          `text ${place} of the column "${name}" ends at ${next}`,
          `offsets of whole texts of at most ${TEXT_LENGTH_MAX} bytes, from 0 on`,
        );
      const isNull = emptyIsNull && next === start;
      spans[2 * place] = isNull ? NULL_START : start;
      spans[2 * place + 1] = isNull ? NULL_START : next;
      end = next;
    }
    return { form: 'texts', bytes, spans };
  }

  demandEnd(): void {
    if (aligned(this.#end) === aligned(this.#body.length)) return;
    throw malformed(
      `the body has ${this.#body.length} bytes`,
      `${this.#end}, as many as the arrays of the header have`,
    );
  }

  #taken(byteCount: number, name: string): number {
    const start = aligned(this.#end);
    this.#end = start + byteCount;
    if (this.#end > this.#body.length) throw this.#tooShort(name);
    return start;
  }

  #view<Values>(
    array: new (buffer: ArrayBufferLike, byteOffset: number, length: number) => Values,
    start: number,
    length: number,
  ): Values {
    return new array(this.#body.buffer, this.#body.byteOffset + start, length);
  }

  #tooShort(name: string): RefusedRequest {
    return malformed(
      `the body ends within the column "${name}"`,
      `arrays of ${this.#count} candidates`,
    );
  }
}

/** Whether a text that ends there ends within a character. */
function splits(bytes: Uint8Array, end: number): boolean {
  return end < bytes.length && (uint8At(bytes, end) & 0xc0) === 0x80;
}

function malformed(found: string, expected: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'malformed',
    what: 'the body is no request in binary',
    ...{ expected, found },
    cure: 'infra/docs/serving.md describes the layout',
  });
}
