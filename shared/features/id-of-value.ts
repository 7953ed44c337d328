/** The id of a category's value, or of a bag's member: by dictionary or by hash. */

import { hashBucketOf } from './md5-bucket.js';
import { idOfText, type PackedDictionary } from './packed-dictionary.js';

/** The id of a text that is not empty. */
export type IdOfValue = (text: string) => number;

export function idByDictionary(dictionary: PackedDictionary): IdOfValue {
  return (text) => idOfText(dictionary, text);
}

export function idByHash(buckets: number): IdOfValue {
  return (text) => hashBucketOf(text, buckets);
}
