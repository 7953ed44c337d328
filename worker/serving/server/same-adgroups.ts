/** Candidates of the same adgroup, found by the hashes of their keys. */

import { int32At, uint32At } from '../../../shared/base/arrays.js';

const SLOTS_PER_CANDIDATE = 4;

let slots = new Int32Array(0);

/**
 * The first candidate whose adgroup came before, and the one that it came with; null if there is none.
 *
 * @param hashes `[count, 2]`
 * @param isSame whether two candidates with one hash have one key.
 */
export function firstRepeated(
  hashes: Uint32Array,
  count: number,
  isSame: (first: number, second: number) => boolean,
): readonly [candidate: number, earlier: number] | null {
  let slotCount = 64;
  while (slotCount < SLOTS_PER_CANDIDATE * count) slotCount *= 2;
  if (slots.length < slotCount) slots = new Int32Array(slotCount);
  else slots.fill(0, 0, slotCount);
  for (let candidate = 0; candidate < count; candidate += 1) {
    const low = uint32At(hashes, 2 * candidate);
    const high = uint32At(hashes, 2 * candidate + 1);
    let slot = (low ^ (high >>> 7)) & (slotCount - 1);
    for (; int32At(slots, slot) !== 0; slot = (slot + 1) & (slotCount - 1)) {
      const earlier = int32At(slots, slot) - 1;
      const isEqual =
        uint32At(hashes, 2 * earlier) === low && uint32At(hashes, 2 * earlier + 1) === high;
      if (isEqual && isSame(earlier, candidate)) return [candidate, earlier];
    }
    slots[slot] = candidate + 1;
  }
  return null;
}
