/** Encoders of one feature each: they write the id, the bag or the number of a row. */

import {
  EMPTY_PLACE_ID,
  FIRST_ID,
  LOG_BUCKETS_PER_SIGN,
  STORED_SIZE_MAX,
  UNKNOWN_ID,
} from './encoding-rules.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import type { ReadMembers, ReadNumber, ReadText } from './feature-source.js';
import type { IdOfValue } from './id-of-value.js';
import { doubleOfSqlLiteral } from './values/number-text.js';

/** Writes the id, the number, or the places of the bag from `at` on. */
export type EncodePicked = (picked: unknown, target: Int32Array | Float32Array, at: number) => void;

const STORED_MAX = Number(STORED_SIZE_MAX);

export function categoryEncoder(read: ReadText, idOf: IdOfValue): EncodePicked {
  return (picked, target, at) => {
    const text = read(picked);
    const isEmpty = text === null || text === '';
    target[at] = isEmpty ? UNKNOWN_ID : idOf(text);
  };
}

export function bagEncoder(read: ReadMembers, idOf: IdOfValue, lengthMax: number): EncodePicked {
  let ids: Int32Array | Float32Array = new Int32Array(0);
  let next = 0;
  let end = 0;
  const take = (member: string | null): boolean => {
    if (member === null || member === '') return true;
    ids[next] = idOf(member);
    next += 1;
    return next < end;
  };
  return (picked, target, at) => {
    ids = target;
    next = at;
    end = at + lengthMax;
    read(picked, take);
    target.fill(EMPTY_PLACE_ID, next, end);
  };
}

export function logBucketEncoder(read: ReadNumber): EncodePicked {
  return (picked, target, at) => {
    const value = read(picked);
    const bucket = Math.min(Math.floor(Math.log2(1 + Math.abs(value))), LOG_BUCKETS_PER_SIGN - 1);
    const ofSign = value < 0 ? LOG_BUCKETS_PER_SIGN : 0;
    target[at] = FIRST_ID + bucket + ofSign;
  };
}

export function numberEncoder(
  feature: Extract<EncodedFeature, { kind: 'number' }>,
  read: ReadNumber,
): EncodePicked {
  // The SQL holds both as literals.
  const mean = doubleOfSqlLiteral(String(feature.mean));
  const deviation = doubleOfSqlLiteral(String(feature.deviation));
  const isLogarithmic = feature.scale === 'log-standard';
  return (picked, target, at) => {
    const value = read(picked);
    const scaled = ((isLogarithmic ? signedLogarithm(value) : value) - mean) / deviation;
    target[at] = Math.min(Math.max(scaled, -STORED_MAX), STORED_MAX);
  };
}

function signedLogarithm(value: number): number {
  const size = Math.log(1 + Math.abs(value));
  if (value > 0) return size;
  return value < 0 ? -size : 0;
}
