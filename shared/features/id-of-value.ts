/** The id of a category's value, or of a bag's member: by dictionary or by hash. */

import { UNKNOWN_ID } from './encoding-rules.js';
import { wellFormed } from './values/json-text.js';
import { hashBucketOf } from './md5-bucket.js';

/** The id of a text that is not empty. */
export type IdOfValue = (text: string) => number;

/** The value of each id of a dictionary; null for id 0. */
export type DictionaryValues = readonly (string | null)[];

const SURROGATE = /[\ud800-\udfff]/;

export function idByDictionary(values: DictionaryValues): IdOfValue {
  const idByValue = new Map<string, number>();
  for (const [id, value] of values.entries()) if (value !== null) idByValue.set(value, id);
  return (text) => {
    const id = idByValue.get(text);
    if (id !== undefined) return id;
    if (!SURROGATE.test(text)) return UNKNOWN_ID;
    return idByValue.get(wellFormed(text)) ?? UNKNOWN_ID;
  };
}

export function idByHash(buckets: number): IdOfValue {
  return (text) => hashBucketOf(text, buckets);
}
