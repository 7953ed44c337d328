/**
 * Numbers of texts where they lie: the block of an adgroup's key, the id of a value. A text
 * is compared byte by byte with the one that has its hash; a hash alone is taken as it is.
 */

import { uint32At } from '../../../shared/base/arrays.js';
import { keyHashOf } from '../../../shared/bundle/key-hash.js';
import {
  blockOfHash,
  isKeyOf,
  UNKNOWN_BLOCK,
  type KeyIndexArrays,
} from '../../../shared/bundle/key-index.js';
import type { TextIds } from '../../../shared/features/id-of-value.js';
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

/** Lookups of texts by the addon, or in TypeScript where it is not compiled. */
export interface TextLookups {
  ofKeys(index: KeyIndexArrays): KeyLookup;
  /** Null where each value is encoded by itself (`shared/features/row-encoder.ts`), which gives the same ids. */
  readonly ofValues: ((ids: TextIds) => ValueLookup) | null;
}

export const plainLookups: TextLookups = {
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
  ofValues: null,
};

function textAt({ bytes, spans }: TextsColumn, candidate: number): Uint8Array {
  const start = uint32At(spans, 2 * candidate);
  return start === NULL_START
    ? bytes.subarray(0, 0)
    : bytes.subarray(start, uint32At(spans, 2 * candidate + 1));
}
