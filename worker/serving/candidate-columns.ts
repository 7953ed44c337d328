/**
 * Numbers of texts where they lie: the block of an adgroup's key, the id of a value. A text
 * is compared byte by byte with the one that has its hash; a hash alone is taken as it is.
 */

import { uint32At, numberAt } from '../../shared/base/arrays.js';
import {
  keyHashOf,
  blockOfHash,
  isKeyOf,
  UNKNOWN_BLOCK,
  type KeyIndexArrays,
} from '../../shared/bundle/key-index.js';
import type { TextIds } from '../../shared/features/packed-dictionary.js';

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

/** Values as JSON holds them; undefined where a candidate lacks the column. */
interface ValuesColumn {
  readonly form: 'values';
  readonly values: readonly unknown[];
}

/** Texts in UTF-8, where they lie in a body. */
export interface TextsColumn {
  readonly form: 'texts';
  readonly bytes: Uint8Array;
  /** `[count, 2]`: where each text begins and ends; `NULL_START` begins an empty value. */
  readonly spans: Uint32Array;
}

/** NaN is an empty value. */
interface NumbersColumn {
  readonly form: 'numbers';
  readonly numbers: Float64Array | Float32Array | Int32Array;
}

/** Hashes of texts (`key-hash.ts`) under seed 0 in place of the texts. */
export interface HashesColumn {
  readonly form: 'hashes';
  /** `[count, 2]`: low and high word. */
  readonly words: Uint32Array;
}

/** Ids of a dictionary's values in place of the values. */
interface IdsColumn {
  readonly form: 'ids';
  readonly ids: Int32Array;
}

export type CandidateColumn = ValuesColumn | TextsColumn | NumbersColumn | HashesColumn | IdsColumn;

export const NULL_START = 0xffffffff;
/** Begins a value that a candidate does not have, in what the addon takes apart alone. */
export const MISSING_START = 0xfffffffe;

/** The value of each candidate as JSON holds it; null if something stands in their place. */
export function valuesOf(column: CandidateColumn): readonly unknown[] | null {
  switch (column.form) {
    case 'values':
      return column.values;
    case 'texts':
      return textsOf(column);
    case 'numbers':
      return Array.from(column.numbers, (value) => (Number.isNaN(value) ? null : value));
    case 'hashes':
    case 'ids':
      return null;
  }
}

function textsOf({ bytes, spans }: TextsColumn): readonly (string | null)[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: spans.length / 2 }, (_, candidate) => {
    const start = uint32At(spans, 2 * candidate);
    const end = uint32At(spans, 2 * candidate + 1);
    return start === NULL_START ? null : buffer.toString('utf8', start, end);
  });
}

export function columnOfTexts(texts: readonly string[]): TextsColumn {
  const spans = new Uint32Array(2 * texts.length);
  let byteCount = 0;
  for (const text of texts) byteCount += Buffer.byteLength(text);
  const bytes = Buffer.allocUnsafe(byteCount);
  let end = 0;
  for (const [place, text] of texts.entries()) {
    spans[2 * place] = end;
    end += bytes.write(text, end);
    spans[2 * place + 1] = end;
  }
  return { form: 'texts', bytes, spans };
}

/** Whether two texts of a column are the same, byte by byte. */
export function isSameText({ bytes, spans }: TextsColumn, first: number, second: number): boolean {
  const [a, b] = [numberAt(spans, 2 * first), numberAt(spans, 2 * second)];
  const length = numberAt(spans, 2 * first + 1) - a;
  if (numberAt(spans, 2 * second + 1) - b !== length) return false;
  for (let place = 0; place < length; place += 1)
    if (bytes[a + place] !== bytes[b + place]) return false;
  return true;
}
