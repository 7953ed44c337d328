/**
 * Numbers of texts where they lie: the block of an adgroup's key, the id of a value. A text
 * is compared byte by byte with the one that has its hash; a hash alone is taken as it is.
 */

import { int32At, uint32At } from '../../../shared/base/arrays.js';
import { UNKNOWN_ID } from '../../../shared/features/encoding-rules.js';
import { keyHashOf } from '../../../shared/bundle/key-hash.js';
import {
  blockOfHash,
  isKeyOf,
  UNKNOWN_BLOCK,
  type KeyIndexArrays,
} from '../../../shared/bundle/key-index.js';
import type { TextIds } from '../../../shared/features/id-of-value.js';
import { hashBucketOf } from '../../../shared/features/md5-bucket.js';
import { idOfBytes } from '../../../shared/features/packed-dictionary.js';
import { NULL_START, type HashesColumn, type TextsColumn } from './candidate-column.js';

/** Where the numbers are written: that of candidate i at `first + i * stride`. */
export interface Places<Target = Int32Array> {
  readonly target: Target;
  readonly first: number;
  readonly stride: number;
}

export interface KeyLookup {
  /**
   * Writes the block of each key, 0 for an unknown one.
   *
   * @param hashes `[count, 2]`: takes low and high word of each key's hash under seed 0.
   */
  ofTexts(keys: TextsColumn, blocks: Int32Array, hashes: Uint32Array): void;
  /** By hashes under seed 0, which only an index of that seed has. */
  ofHashes(keys: HashesColumn, blocks: Int32Array): void;
}

/** Writes the id of each of the first `count` texts, 0 for an unknown one and for an empty value. */
export type ValueLookup = (texts: TextsColumn, count: number, places: Places) => void;

/** What looks texts up: the addon, or plain TypeScript where it is not compiled. */
export interface TextLookups {
  ofKeys(index: KeyIndexArrays): KeyLookup;
  ofValues(ids: TextIds): ValueLookup;
  /**
   * Writes ids of candidates to their places. Returns -1, or the first candidate whose id is not one of so many values; the
   * places are then of no use.
   */
  copyIds(ids: Int32Array, valueCount: number, places: Places): number;
}

export const plainLookups: TextLookups = {
  copyIds: (ids, valueCount, { target, first, stride }) => {
    for (let candidate = 0; candidate < ids.length; candidate += 1) {
      const id = int32At(ids, candidate);
      if (id < 0 || id >= valueCount) return candidate;
      target[first + candidate * stride] = id;
    }
    return -1;
  },
  ofKeys: (index) => ({
    ofTexts: (keys, blocks, hashes) => {
      for (let candidate = 0; candidate < blocks.length; candidate += 1) {
        const text = textAt(keys, candidate);
        const hash = keyHashOf(text, 0);
        hashes[2 * candidate] = hash.low;
        hashes[2 * candidate + 1] = hash.high;
        const { seed } = index;
        const found = blockOfHash(index, seed === 0 ? hash : keyHashOf(text, seed));
        const isKnown = found !== UNKNOWN_BLOCK && isKeyOf(index, found, text);
        blocks[candidate] = isKnown ? found : UNKNOWN_BLOCK;
      }
    },
    ofHashes: ({ words }, blocks) => {
      for (let candidate = 0; candidate < blocks.length; candidate += 1)
        blocks[candidate] = blockOfHash(index, {
          low: uint32At(words, 2 * candidate),
          high: uint32At(words, 2 * candidate + 1),
        });
    },
  }),
  ofValues:
    ({ dictionary, buckets }) =>
    (texts, count, { target, first, stride }) => {
      for (let candidate = 0; candidate < count; candidate += 1) {
        const text = textAt(texts, candidate);
        let id = UNKNOWN_ID;
        // An empty text is no value, whatever the dictionary says.
        if (text.length > 0) {
          if (dictionary !== null) id = idOfBytes(dictionary, text);
          if (id === UNKNOWN_ID && buckets > 0) id = hashBucketOf(stringOf(text), buckets);
        }
        target[first + candidate * stride] = id;
      }
    },
};

function stringOf({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString();
}

function textAt({ bytes, spans }: TextsColumn, candidate: number): Uint8Array {
  const start = uint32At(spans, 2 * candidate);
  return start === NULL_START
    ? bytes.subarray(0, 0)
    : bytes.subarray(start, uint32At(spans, 2 * candidate + 1));
}
