/**
 * Encodes raw rows, one by one, into the ids and numbers that `prepare` stores for them. Built once
 * from the config's features, the store's manifest and its dictionaries.
 */

import type { FeatureConfig } from '../config/data-config.js';
import { QianmoError } from '../base/errors.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import type { ColumnTypes } from './values/column-type.js';
import { allocateEncodedRows, type EncodedRows } from './encoded-rows.js';
import {
  bagEncoder,
  categoryEncoder,
  logBucketEncoder,
  numberEncoder,
  type EncodeFeature,
} from './feature-encoders.js';
import { bagSource, categorySource, numberSource, type BroughtValue } from './feature-source.js';
import { idByDictionary, idByHash, type IdOfValue } from './id-of-value.js';
import type { PackedDictionary } from './packed-dictionary.js';
import type { BroughtValues, RawRow } from './values/raw-row.js';

interface RowEncoderSource {
  /** `data.features` of the config that the store was prepared with. */
  readonly features: readonly FeatureConfig[];
  /** `features` of the store's manifest. */
  readonly encodedFeatures: readonly EncodedFeature[];
  /** By name of each feature that is encoded by dictionary. */
  readonly dictionaries: ReadonlyMap<string, PackedDictionary>;
  /** The types of the logs' columns; a column that is not listed is text. */
  readonly columns: ColumnTypes;
}

export interface RowEncoder {
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
  if (features.length !== encodedFeatures.length)
    throw unfit('features', `${encodedFeatures.length} as in the manifest`, `${features.length}`);
  const placeByKind = { category: 0, bag: 0, number: 0 };
  const encoders: EncodeFeature[] = [];
  const broughtValues: BroughtValue[] = [];
  for (const [index, feature] of features.entries()) {
    const encoded = encodedFeatures[index];
    if (encoded?.name !== feature.name)
      throw unfit(`features.${index}`, `"${encoded?.name}"`, `"${feature.name}"`);
    const place = placeByKind[encoded.kind];
    placeByKind[encoded.kind] += 1;
    const { encode, brought } = featureEncoderOf(feature, encoded, source, place);
    encoders.push(encode);
    if (brought !== null) broughtValues.push(brought);
  }
  const encodeInto = (
    rows: EncodedRows,
    at: number,
    row: RawRow,
    brought = NOTHING_BROUGHT,
  ): void => {
    for (const encode of encoders) encode(row, brought, rows, at);
  };
  const allocate = (rowCount: number): EncodedRows =>
    allocateEncodedRows(encodedFeatures, rowCount);
  return {
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

interface SourcedEncoder {
  readonly encode: EncodeFeature;
  readonly brought: BroughtValue | null;
}

function featureEncoderOf(
  feature: FeatureConfig,
  encoded: EncodedFeature,
  { dictionaries, columns }: RowEncoderSource,
  place: number,
): SourcedEncoder {
  switch (feature.kind) {
    case 'category': {
      if (encoded.kind !== 'category' || encoded.encoding.by === 'log-bucket') break;
      const { source, brought } = categorySource(feature, columns);
      const idOf = idsOf(encoded.name, encoded.encoding, dictionaries);
      return { encode: categoryEncoder(source, idOf, place), brought };
    }
    case 'bag': {
      if (encoded.kind !== 'bag' || encoded.lengthMax !== feature.lengthMax) break;
      const { source, brought } = bagSource(feature, columns);
      const idOf = idsOf(encoded.name, encoded.encoding, dictionaries);
      return { encode: bagEncoder(source, idOf, encoded.lengthMax, place), brought };
    }
    case 'number': {
      const { source, brought } = numberSource(feature, columns);
      if (encoded.kind === 'number') {
        if (encoded.scale !== feature.scale) break;
        return { encode: numberEncoder(encoded, source, place), brought };
      }
      if (encoded.kind !== 'category' || encoded.encoding.by !== 'log-bucket') break;
      return { encode: logBucketEncoder(source, place), brought };
    }
  }
  throw unfit(`feature "${feature.name}"`, JSON.stringify(encoded), JSON.stringify(feature));
}

function idsOf(
  featureName: string,
  encoding: { readonly by: 'dictionary' } | { readonly by: 'hash'; readonly buckets: number },
  dictionaries: ReadonlyMap<string, PackedDictionary>,
): IdOfValue {
  if (encoding.by === 'hash') return idByHash(encoding.buckets);
  const values = dictionaries.get(featureName);
  if (values === undefined)
    throw unfit(`feature "${featureName}"`, 'its dictionary of the store', 'none');
  return idByDictionary(values);
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
