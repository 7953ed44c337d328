/** The id of a category's value, or of a bag's member: by dictionary, by hash, or by both. */

import { createHash } from 'node:crypto';
import { FIRST_ID, UNKNOWN_ID } from './encoding-rules.js';
import { idOfText, type PackedDictionary } from './packed-dictionary.js';

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
