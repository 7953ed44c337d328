/** The id of a category's value, or of a bag's member: by dictionary or by hash. */

import { UNKNOWN_ID } from './encoding-rules.js';
import { hashBucketOf } from './md5-bucket.js';
import { idOfText, type PackedDictionary } from './packed-dictionary.js';

/** The id of a text that is not empty. */
export type IdOfValue = (text: string) => number;

/** @param unseenBuckets as `unseenBucketsOf`: ids of texts that the dictionary does not hold. */
export function idByDictionary(dictionary: PackedDictionary, unseenBuckets = 0): IdOfValue {
  if (unseenBuckets === 0) return (text) => idOfText(dictionary, text);
  return (text) => {
    const id = idOfText(dictionary, text);
    return id === UNKNOWN_ID ? hashBucketOf(text, unseenBuckets + 1) : id;
  };
}

export function idByHash(buckets: number): IdOfValue {
  return (text) => hashBucketOf(text, buckets);
}
