/** Encoders of one feature each: they write the id, the bag or the number of a row. */

import {
  EMPTY_PLACE_ID,
  FIRST_ID,
  LOG_BUCKETS_PER_SIGN,
  STORED_SIZE_MAX,
  UNKNOWN_ID,
} from './encoding-rules.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import { valuesAt, type EncodedRows } from './encoded-rows.js';
import type { MembersSource, NumberSource, TextSource } from './feature-source.js';
import type { IdOfValue } from './id-of-value.js';
import { doubleOfSqlLiteral } from './values/number-text.js';
import type { BroughtValues, RawRow } from './values/raw-row.js';

/** Writes one feature of a row to its place `at`. */
export type EncodeFeature = (
  row: RawRow,
  brought: BroughtValues,
  rows: EncodedRows,
  at: number,
) => void;

const STORED_MAX = Number(STORED_SIZE_MAX);

export function categoryEncoder(source: TextSource, idOf: IdOfValue, place: number): EncodeFeature {
  return (row, brought, rows, at) => {
    const text = source(row, brought);
    const isEmpty = text === null || text === '';
    valuesAt(rows.categoryIds, place)[at] = isEmpty ? UNKNOWN_ID : idOf(text);
  };
}

export function bagEncoder(
  source: MembersSource,
  idOf: IdOfValue,
  lengthMax: number,
  place: number,
): EncodeFeature {
  let ids: Int32Array = new Int32Array(0);
  let next = 0;
  let end = 0;
  const take = (member: string | null): boolean => {
    if (member === null || member === '') return true;
    ids[next] = idOf(member);
    next += 1;
    return next < end;
  };
  return (row, brought, rows, at) => {
    ids = valuesAt(rows.bagIds, place);
    next = at * lengthMax;
    end = next + lengthMax;
    source(row, brought, take);
    ids.fill(EMPTY_PLACE_ID, next, end);
  };
}

export function logBucketEncoder(source: NumberSource, place: number): EncodeFeature {
  return (row, brought, rows, at) => {
    const value = source(row, brought);
    const bucket = Math.min(Math.floor(Math.log2(1 + Math.abs(value))), LOG_BUCKETS_PER_SIGN - 1);
    const ofSign = value < 0 ? LOG_BUCKETS_PER_SIGN : 0;
    valuesAt(rows.categoryIds, place)[at] = FIRST_ID + bucket + ofSign;
  };
}

export function numberEncoder(
  feature: Extract<EncodedFeature, { kind: 'number' }>,
  source: NumberSource,
  place: number,
): EncodeFeature {
  // The SQL holds both as literals.
  const mean = doubleOfSqlLiteral(String(feature.mean));
  const deviation = doubleOfSqlLiteral(String(feature.deviation));
  const isLogarithmic = feature.scale === 'log-standard';
  return (row, brought, rows, at) => {
    const value = source(row, brought);
    const scaled = ((isLogarithmic ? signedLogarithm(value) : value) - mean) / deviation;
    valuesAt(rows.numbers, place)[at] = Math.min(Math.max(scaled, -STORED_MAX), STORED_MAX);
  };
}

function signedLogarithm(value: number): number {
  const size = Math.log(1 + Math.abs(value));
  if (value > 0) return size;
  return value < 0 ? -size : 0;
}
