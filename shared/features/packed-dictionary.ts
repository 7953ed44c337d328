/**
 * A dictionary as bytes that are read where they lie, mapped or not: the values of all ids one after the
 * other, and a hash index with linear probing over a power of two of slots, at most half of them taken.
 * An empty slot is 0. A taken one holds an id, never 0, in its lowest bits, and above them bits of the value's hash, so that the
 * slot of another value is passed over without a look at its text. The first slot of a value, and what its slot holds, are
 *
 *   h = 0x811c9dc5;  for each byte b of its UTF-8 text:  h = (h xor b) * 0x01000193 mod 2^32
 *   m = h * 0x9e3779b1 mod 2^32
 *   m >> (32 - log2(slotCount)),  and  (m << (log2(slotCount) - 1)) mod 2^32 + id
 */

import { uint32At, uint8At } from '../base/arrays.js';
import { createHash } from 'node:crypto';
import { FIRST_ID, UNKNOWN_ID } from './encoding-rules.js';

export interface PackedDictionary {
  /** UTF-8 texts in the order of their ids; those of id 0 and of ids of unseen values are empty. */
  readonly bytes: Uint8Array;
  /** Where the text of each id begins, and the end: `[valueCount + 1]`. */
  readonly offsets: Uint32Array;
  /** `[slotCount]` */
  readonly slots: Uint32Array;
}

const BASIS = 0x811c9dc5;
const PRIME = 0x01000193;
const MIXING = 0x9e3779b1;
const SLOT_COUNT_MIN = 16;
const ASCII_MAX = 0x7f;

/** @param values of each id; null for id 0 and for ids of unseen values. */
export function packedDictionaryOf(values: readonly (string | null)[]): PackedDictionary {
  const texts = values.map((value) => value ?? '');
  const offsets = new Uint32Array(texts.length + 1);
  for (const [id, text] of texts.entries())
    offsets[id + 1] = uint32At(offsets, id) + Buffer.byteLength(text);
  const bytes = new Uint8Array(Buffer.from(texts.join('')));
  if (bytes.length !== offsets.at(-1))
    throw new Error('a value of a dictionary is no Unicode text');
  return { bytes, offsets, slots: dictionarySlotsOf({ bytes, offsets }) };
}

/** The index of values that are packed. */
function dictionarySlotsOf({
  bytes,
  offsets,
}: Pick<PackedDictionary, 'bytes' | 'offsets'>): Uint32Array {
  const valueCount = offsets.length - 1;
  const slotCount = dictionarySlotCountOf(valueCount);
  const slots = new Uint32Array(slotCount);
  const idBitCount = idBitCountOf(slotCount);
  for (let id = 1; id < valueCount; id += 1) {
    // No value is empty: such ids are those of unseen values.
    if (uint32At(offsets, id) === uint32At(offsets, id + 1)) continue;
    let hash = BASIS;
    for (let place = uint32At(offsets, id); place < uint32At(offsets, id + 1); place += 1)
      hash = Math.imul(hash ^ uint8At(bytes, place), PRIME);
    const mixed = Math.imul(hash, MIXING);
    let slot = firstSlotOf(mixed, slotCount);
    while (uint32At(slots, slot) !== 0) slot = (slot + 1) & (slotCount - 1);
    slots[slot] = (mixed << idBitCount) | id;
  }
  return slots;
}

/** The smallest power of two with at least two slots for every value. */
export function dictionarySlotCountOf(valueCount: number): number {
  let slotCount = SLOT_COUNT_MIN;
  while (slotCount < 2 * valueCount) slotCount *= 2;
  return slotCount;
}

function firstSlotOf(mixed: number, slotCount: number): number {
  return mixed >>> (Math.clz32(slotCount) + 1);
}

/** Ids are below half the number of slots. */
function idBitCountOf(slotCount: number): number {
  return 30 - Math.clz32(slotCount);
}

/** The id of a text, 0 if the dictionary does not hold it. What is no Unicode text is read as UTF-8 has it. */
export function idOfText(dictionary: PackedDictionary, text: string): number {
  let hash = BASIS;
  for (let place = 0; place < text.length; place += 1) {
    const code = text.charCodeAt(place);
    if (code > ASCII_MAX) return idOfBytes(dictionary, Buffer.from(text));
    hash = Math.imul(hash ^ code, PRIME);
  }
  return idAt(dictionary, hash, text.length, (place) => text.charCodeAt(place));
}

/** That of a text in UTF-8. */
function idOfBytes(dictionary: PackedDictionary, bytes: Uint8Array): number {
  let hash = BASIS;
  for (let place = 0; place < bytes.length; place += 1)
    hash = Math.imul(hash ^ uint8At(bytes, place), PRIME);
  return idAt(dictionary, hash, bytes.length, (place) => uint8At(bytes, place));
}

function idAt(
  { bytes, offsets, slots }: PackedDictionary,
  hash: number,
  length: number,
  byteAt: (place: number) => number,
): number {
  const slotCount = slots.length;
  const mixed = Math.imul(hash, MIXING);
  const idBitCount = idBitCountOf(slotCount);
  let slot = firstSlotOf(mixed, slotCount);
  for (let probed = 0; probed < slotCount; probed += 1) {
    const held = uint32At(slots, slot);
    if (held === 0) return 0;
    const id = held & ((1 << idBitCount) - 1);
    const start = uint32At(offsets, id);
    const isAlike = (held ^ (mixed << idBitCount)) >>> idBitCount === 0;
    if (isAlike && uint32At(offsets, id + 1) - start === length) {
      let place = 0;
      while (place < length && uint8At(bytes, start + place) === byteAt(place)) place += 1;
      if (place === length) return id;
    }
    slot = (slot + 1) & (slotCount - 1);
  }
  return 0;
}

/** The id of a text that is not empty. */
export type IdOfValue = (text: string) => number;

export interface TextIds {
  /** Null where every text is hashed. */
  readonly dictionary: PackedDictionary | null;
  /** A text that the dictionary does not hold has the id of its bucket among so many; 0 leaves it unknown. */
  readonly buckets: number;
}

export function idOfValueBy({ dictionary, buckets }: TextIds): IdOfValue {
  if (dictionary === null) return (text) => hashBucketOf(text, buckets);
  if (buckets === 0) return (text) => idOfText(dictionary, text);
  return (text) => {
    const id = idOfText(dictionary, text);
    return id === UNKNOWN_ID ? hashBucketOf(text, buckets) : id;
  };
}

/** The bucket of a text: 1 + (last eight bytes of its MD5, little-endian) mod (buckets - 1). */
export function hashBucketOf(text: string, buckets: number): number {
  const digest = createHash('md5').update(text).digest();
  return FIRST_ID + Number(digest.readBigUInt64LE(8) % BigInt(buckets - 1));
}
