/** Looks an encoded value up in the lists that a block has beside it. */

import { at, int32At } from '../base/arrays.js';
import type { ValueLists } from './ranking-model.js';

interface SoughtValue {
  readonly block: number;
  /** The place of the feature among those that the lists are of. */
  readonly feature: number;
  readonly id: number;
}

/** The entry of a value in its list; -1 if it is not there. */
export function placeOfId(
  { features, offsets, ids }: ValueLists,
  { block, feature, id }: SoughtValue,
): number {
  const list = block * features.length + feature;
  const end = at(offsets, list + 1);
  let low = at(offsets, list);
  let high = end;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (int32At(ids, middle) < id) low = middle + 1;
    else high = middle;
  }
  return low < end && int32At(ids, low) === id ? low : -1;
}
