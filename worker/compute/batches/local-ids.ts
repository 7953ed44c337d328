/**
 * Finds the place of each id of a table within the row pack, by open addressing. A job looks up an id
 * for every row and feature; a `Map` or a binary search would cost more than the forward pass.
 */

import { int32At } from '../../../shared/base/arrays.js';

export interface LocalIds {
  /** The row of the pack that holds `id`, which must be an id of the table. */
  placeOf(id: number): number;
}

/** @param ids unique; the i-th of them lies in row `start + i` of the pack. */
export function localIdsOf(ids: Int32Array, start: number): LocalIds {
  let bitCount = 4;
  while (1 << bitCount < ids.length * 2) bitCount += 1;
  const mask = (1 << bitCount) - 1;
  const shift = 32 - bitCount;
  const keys = new Int32Array(mask + 1).fill(-1);
  const places = new Int32Array(mask + 1);
  // Fibonacci hashing: the high bits of a product with 2^32 over the golden ratio.
  const slotOf = (id: number): number => {
    let slot = Math.imul(id, 0x9e3779b1) >>> shift;
    while (keys[slot] !== id && keys[slot] !== -1) slot = (slot + 1) & mask;
    return slot;
  };
  for (let index = 0; index < ids.length; index += 1) {
    const id = int32At(ids, index);
    const slot = slotOf(id);
    keys[slot] = id;
    places[slot] = start + index;
  }
  return { placeOf: (id) => int32At(places, slotOf(id)) };
}
