/** Number features that follow from the ids of a row: what target encodings say of its values. */

import { at, int32At } from '../base/arrays.js';
import { type EncodedFeature, unseenBucketsOf } from '../tasks/store-manifest.js';
import {
  placeOfValue,
  targetEncodingNameOf,
  type TargetEncoding,
} from '../tasks/target-encoding.js';
import { valuesAt, type EncodedRows } from './encoded-rows.js';
import { UNKNOWN_ID } from './encoding-rules.js';

export interface DerivedNumber {
  readonly name: string;
  /** The categories whose ids decide it, one or two. */
  readonly of: readonly string[];
  /** @param second 0 where it is of one category. */
  readonly numberOf: (first: number, second: number) => number;
}

/** @param encodings by `targetEncodingNameOf`. */
export function derivedNumbersOf(
  features: readonly EncodedFeature[],
  encodings: ReadonlyMap<string, TargetEncoding>,
): DerivedNumber[] {
  return features.flatMap((feature): DerivedNumber[] => {
    if (feature.kind !== 'number' || feature.encodes === undefined) return [];
    const { name, encodes } = feature;
    const encoding = encodings.get(targetEncodingNameOf(encodes.of));
    if (encoding === undefined) throw new Error(`the target encoding of ${name} was not read`);
    const values = encodes.input === 'rate' ? encoding.rates : encoding.counts;
    const [ofFirst = 0, ofSecond = 0] = encodes.of.map((category) => {
      const encoded = features.find((each) => each.name === category);
      return encoded === undefined ? 0 : unseenBucketsOf(encoded);
    });
    // Other adgroups say of every unseen value what they say of unknown ones.
    const numberOf = (first: number, second: number): number => {
      const place = placeOfValue(
        encoding,
        first <= ofFirst ? UNKNOWN_ID : first,
        second <= ofSecond ? UNKNOWN_ID : second,
      );
      return place < 0 ? 0 : at(values, place);
    };
    return [{ name, of: encodes.of, numberOf }];
  });
}

/** Returns what writes the numbers of a row whose ids are there. */
export function derivedWriterOf(
  features: readonly EncodedFeature[],
  derived: readonly DerivedNumber[],
): (rows: EncodedRows, row: number) => void {
  const namesOf = (kind: EncodedFeature['kind']): string[] =>
    features.filter((feature) => feature.kind === kind).map(({ name }) => name);
  const [categories, numbers] = [namesOf('category'), namesOf('number')];
  const placed = derived.map(({ name, of, numberOf }) => ({
    numberOf,
    place: numbers.indexOf(name),
    categories: of.map((category) => categories.indexOf(category)),
  }));
  return (rows, row) => {
    for (const { numberOf, place, categories: from } of placed) {
      const idOf = (category: number | undefined): number =>
        category === undefined ? 0 : int32At(valuesAt(rows.categoryIds, category), row);
      valuesAt(rows.numbers, place)[row] = numberOf(idOf(from[0]), idOf(from[1]));
    }
  };
}
