/**
 * A target encoding of a task store: for values of a category, or of a pair of categories, how their click
 * rate in other tasks differs from the overall one, and on how many impressions that rests. Training tasks are
 * in parts, and a row of part f reads the sums over the other parts; rows of all other tasks read the sums over
 * all training tasks.
 *
 * Columns of `encodings/NAME.arrow`, ascending by the first ones: `part` int32 (-1: all training tasks),
 * `id0` int32 and for pairs `id1` int32 (ids of the categories), `rate` float32 and `count` float32. A part
 * has the values of its own rows; for others it would say what -1 does. A value that is absent has 0 and 0.
 */

import { tableFromIPC, checkArrowBytes } from './arrow-files.js';
import { at, int32At } from '../base/arrays.js';
import { errorOf } from '../base/errors.js';
import { RESTORE_CURE, type EncodedFeature } from './store-manifest.js';

/** The part of what rows outside of the training tasks read. */
export const ALL_PARTS = -1;

/** The inputs of values, without parts; 0 for values that are absent. */
export interface TargetEncoding {
  /** By category, `[valueCount]`; values are ascending by the first, then by the second. */
  readonly ids: readonly Int32Array[];
  readonly rates: Float32Array;
  readonly counts: Float32Array;
}

/** Values of all parts. */
export interface StoredTargetEncoding extends TargetEncoding {
  /** `[valueCount]` */
  readonly parts: Int32Array;
}

/** The categories of each encoding that adds numbers to the features. */
export function targetEncodingsIn(features: readonly EncodedFeature[]): (readonly string[])[] {
  return features.flatMap((feature) =>
    feature.kind === 'number' && feature.encodes?.input === 'rate' ? [feature.encodes.of] : [],
  );
}

export function targetEncodingNameOf(categories: readonly string[]): string {
  return `encodings/${categories.join('+')}`;
}

/** The file of an encoding; odd characters are percent-encoded. */
export function targetEncodingFileOf(categories: readonly string[]): string {
  return `encodings/${encodeURIComponent(categories.join('+'))}.arrow`;
}

/** @throws QianmoError of kind `data` if the bytes are not an encoding of so many categories. */
export function decodeTargetEncoding(
  bytes: Uint8Array,
  fileName: string,
  categoryCount: number,
): StoredTargetEncoding {
  try {
    checkArrowBytes(bytes);
    const table = tableFromIPC(bytes);
    const column = (name: string): unknown => table.getChild(name)?.toArray();
    const int32 = (name: string): Int32Array => {
      const values = column(name);
      if (values instanceof Int32Array) return values;
      throw new Error(`there is no column "${name}" of int32`);
    };
    const float32 = (name: string): Float32Array => {
      const values = column(name);
      if (values instanceof Float32Array) return values;
      throw new Error(`there is no column "${name}" of float32`);
    };
    return {
      parts: int32('part'),
      ids: Array.from({ length: categoryCount }, (_, category) => int32(`id${category}`)),
      rates: float32('rate'),
      counts: float32('count'),
    };
  } catch (cause) {
    throw errorOf('data', 'a target encoding of the task store cannot be read', {
      where: fileName,
      cure: RESTORE_CURE,
      cause,
    });
  }
}

/** The values of no part, which a bundle needs. They come first. */
export function ofAllParts({ parts, ids, rates, counts }: StoredTargetEncoding): TargetEncoding {
  const found = parts.findIndex((part) => part !== ALL_PARTS);
  const count = found < 0 ? parts.length : found;
  return {
    ids: ids.map((each) => each.subarray(0, count)),
    rates: rates.subarray(0, count),
    counts: counts.subarray(0, count),
  };
}

/** The place of a value; -1 if it is absent. @param second 0 where one category is encoded. */
export function placeOfValue({ ids }: TargetEncoding, first: number, second: number): number {
  const firsts = at(ids, 0);
  const seconds = ids[1];
  let low = 0;
  let high = firsts.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const difference =
      int32At(firsts, middle) - first ||
      (seconds === undefined ? 0 : int32At(seconds, middle) - second);
    if (difference === 0) return middle;
    if (difference < 0) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
