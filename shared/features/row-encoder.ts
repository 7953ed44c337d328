/**
 * The encoder of raw rows into the ids and numbers that `prepare` stores for them, whole rows or single
 * features. Built once from the config's features, the store's manifest and its dictionaries.
 */

import type { FeatureConfig } from '../config/data-config.js';
import { QianmoError } from '../base/errors.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import type { TargetEncoding } from '../tasks/target-encoding.js';
import { allocateEncodedRows, valuesAt, type EncodedRows } from './encoded-rows.js';
import {
  bagSource,
  categorySource,
  numberSource,
  type BroughtValue,
  type BroughtValues,
  type FeatureSource,
  type ReadMembers,
  type ReadNumber,
  type ReadText,
} from './feature-source.js';
import { idOfValueBy, type TextIds, type IdOfValue } from './id-of-value.js';
import type { PackedDictionary } from './packed-dictionary.js';
import { derivedNumbersOf, derivedWriterOf, type DerivedNumber } from './derived-numbers.js';
import {
  EMPTY_PLACE_ID,
  FIRST_ID,
  LOG_BUCKETS_PER_SIGN,
  STORED_SIZE_MAX,
  UNKNOWN_ID,
} from './encoding-rules.js';
import { doubleOfSqlLiteral, type ColumnTypes, type RawRow } from './raw-values.js';

/** Writes the id, the number, or the places of the bag from `at` on. */
type EncodePicked = (picked: unknown, target: Int32Array | Float32Array, at: number) => void;

const STORED_MAX = Number(STORED_SIZE_MAX);

function categoryEncoder(read: ReadText, idOf: IdOfValue): EncodePicked {
  return (picked, target, at) => {
    const text = read(picked);
    const isEmpty = text === null || text === '';
    target[at] = isEmpty ? UNKNOWN_ID : idOf(text);
  };
}

function bagEncoder(read: ReadMembers, idOf: IdOfValue, lengthMax: number): EncodePicked {
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

function logBucketEncoder(read: ReadNumber): EncodePicked {
  return (picked, target, at) => {
    const value = read(picked);
    const bucket = Math.min(Math.floor(Math.log2(1 + Math.abs(value))), LOG_BUCKETS_PER_SIGN - 1);
    const ofSign = value < 0 ? LOG_BUCKETS_PER_SIGN : 0;
    target[at] = FIRST_ID + bucket + ofSign;
  };
}

function numberEncoder(
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

interface RowEncoderSource {
  /** `data.features` of the config that the store was prepared with. */
  readonly features: readonly FeatureConfig[];
  /** `features` of the store's manifest. */
  readonly encodedFeatures: readonly EncodedFeature[];
  /** By name of each feature that is encoded by dictionary. */
  readonly dictionaries: ReadonlyMap<string, PackedDictionary>;
  /** By `targetEncodingNameOf`; they may be left out where there are none. */
  readonly targetEncodings?: ReadonlyMap<string, TargetEncoding>;
  /** The types of the logs' columns; a column that is not listed is text. */
  readonly columns: ColumnTypes;
}

/** Encodes one feature, also of values that lie in a column of their own. */
export interface FeatureEncoder extends Pick<FeatureSource<unknown>, 'column' | 'pick'> {
  readonly name: string;
  readonly kind: EncodedFeature['kind'];
  /** Places in a row of the encoded feature: 1, or those of a bag. */
  readonly placeCount: number;
  /** Ids of the texts of `column`, or of its lists, as they are; null if they are read otherwise. */
  readonly textIds: TextIds | null;
  /** The dictionary of those ids where it alone has them; null otherwise. */
  readonly dictionary: PackedDictionary | null;
  /** Of what `pick` gives. */
  readonly encode: EncodePicked;
}

export interface RowEncoder {
  /** In the order of the manifest. */
  readonly features: readonly FeatureEncoder[];
  /** Numbers that follow from ids, and come behind the other numbers. */
  readonly derived: readonly DerivedNumber[];
  /** The features whose values the caller must bring with every row; most often none. */
  readonly broughtValues: readonly BroughtValue[];
  /** Room for rows, to be encoded into and used again. */
  allocate(rowCount: number): EncodedRows;
  /**
   * Encodes a row to its place among `rows`.
   * @throws QianmoError of kind `data` when the row lacks a column, or `prepare` would reject it.
   */
  encodeInto(rows: EncodedRows, at: number, row: RawRow, brought?: BroughtValues): void;
  /** One row alone. */
  encode(row: RawRow, brought?: BroughtValues): EncodedRows;
}

const NOTHING_BROUGHT: BroughtValues = {};

/** @throws QianmoError of kind `data` when config, manifest and dictionaries do not fit together. */
export function rowEncoderOf(source: RowEncoderSource): RowEncoder {
  const { features, encodedFeatures } = source;
  const derived = derivedNumbersOf(encodedFeatures, source.targetEncodings ?? new Map());
  const ownCount = encodedFeatures.length - derived.length;
  if (features.length !== ownCount)
    throw unfit('features', `${ownCount} as in the manifest`, `${features.length}`);
  const encoders: FeatureEncoder[] = [];
  const broughtValues: BroughtValue[] = [];
  for (const [index, feature] of features.entries()) {
    const encoded = encodedFeatures[index];
    if (encoded?.name !== feature.name)
      throw unfit(`features.${index}`, `"${encoded?.name}"`, `"${feature.name}"`);
    const { encoder, brought } = featureEncoderOf(feature, encoded, source);
    encoders.push(encoder);
    if (brought !== null) broughtValues.push(brought);
  }
  const write = rowWriterOf(encoders);
  const derive = derivedWriterOf(encodedFeatures, derived);
  const encodeInto = (
    rows: EncodedRows,
    at: number,
    row: RawRow,
    brought = NOTHING_BROUGHT,
  ): void => {
    write(rows, at, row, brought);
    derive(rows, at);
  };
  const allocate = (rowCount: number): EncodedRows =>
    allocateEncodedRows(encodedFeatures, rowCount);
  return {
    features: encoders,
    derived,
    broughtValues,
    allocate,
    encodeInto,
    encode(row, brought) {
      const rows = allocate(1);
      encodeInto(rows, 0, row, brought);
      return rows;
    },
  };
}

function rowWriterOf(
  encoders: readonly FeatureEncoder[],
): (rows: EncodedRows, at: number, row: RawRow, brought: BroughtValues) => void {
  const placeByKind = { category: 0, bag: 0, number: 0 };
  const placed = encoders.map(({ kind, placeCount, pick, encode }) => {
    const place = placeByKind[kind];
    placeByKind[kind] += 1;
    const targetOf = (rows: EncodedRows): Int32Array | Float32Array => {
      if (kind === 'number') return valuesAt(rows.numbers, place);
      return valuesAt(kind === 'bag' ? rows.bagIds : rows.categoryIds, place);
    };
    return { placeCount, pick, encode, targetOf };
  });
  return (rows, at, row, brought) => {
    for (const { placeCount, pick, encode, targetOf } of placed)
      encode(pick(row, brought), targetOf(rows), at * placeCount);
  };
}

interface SourcedEncoder {
  readonly encoder: FeatureEncoder;
  readonly brought: BroughtValue | null;
}

function featureEncoderOf(
  feature: FeatureConfig,
  encoded: EncodedFeature,
  { dictionaries, columns }: RowEncoderSource,
): SourcedEncoder {
  const { name, kind } = encoded;
  const placeCount = kind === 'bag' ? encoded.lengthMax : 1;
  const sourced = (
    { column, pick, keepsTexts, brought }: FeatureSource<unknown>,
    encode: EncodePicked,
    ids: TextIds | null = null,
  ): SourcedEncoder => {
    const textIds = keepsTexts ? ids : null;
    // A client that sends ids cannot know those of texts that the dictionary does not hold.
    const dictionary = textIds?.buckets === 0 ? textIds.dictionary : null;
    const encoder = { name, kind, placeCount, column, pick, encode, textIds, dictionary };
    return { encoder, brought };
  };
  switch (feature.kind) {
    case 'category': {
      if (encoded.kind !== 'category' || encoded.encoding.by === 'log-bucket') break;
      const source = categorySource(feature, columns);
      const ids = textIdsOf(name, encoded.encoding, dictionaries);
      return sourced(source, categoryEncoder(source.read, idOfValueBy(ids)), ids);
    }
    case 'bag': {
      if (encoded.kind !== 'bag' || encoded.lengthMax !== feature.lengthMax) break;
      const source = bagSource(feature, columns);
      const ids = textIdsOf(name, encoded.encoding, dictionaries);
      return sourced(source, bagEncoder(source.read, idOfValueBy(ids), placeCount), ids);
    }
    case 'number': {
      const source = numberSource(feature, columns);
      if (encoded.kind === 'number') {
        if (encoded.scale !== feature.scale) break;
        return sourced(source, numberEncoder(encoded, source.read));
      }
      if (encoded.kind !== 'category' || encoded.encoding.by !== 'log-bucket') break;
      return sourced(source, logBucketEncoder(source.read));
    }
  }
  throw unfit(`feature "${feature.name}"`, JSON.stringify(encoded), JSON.stringify(feature));
}

interface DictionaryEncoding {
  readonly by: 'dictionary';
  readonly unseenBuckets?: number | undefined;
}

function textIdsOf(
  featureName: string,
  encoding: DictionaryEncoding | { readonly by: 'hash'; readonly buckets: number },
  dictionaries: ReadonlyMap<string, PackedDictionary>,
): TextIds {
  if (encoding.by === 'hash') return { dictionary: null, buckets: encoding.buckets };
  const dictionary = dictionaries.get(featureName);
  if (dictionary === undefined)
    throw unfit(`feature "${featureName}"`, 'its dictionary of the store', 'none');
  const { unseenBuckets = 0 } = encoding;
  // The id 0 is that of no value.
  return { dictionary, buckets: unseenBuckets === 0 ? 0 : unseenBuckets + 1 };
}

function unfit(where: string, expected: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the config and the task store do not have the same features',
    where,
    expected,
    found,
    cure: 'give the config that the store was prepared with, and its dictionaries',
  });
}
