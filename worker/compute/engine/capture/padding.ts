/**
 * The ladder of extents to which counts are padded, so that few shapes are captured: 1, 2, 3, 4, 6,
 * 8, 12, 16, 24 and so on. Two rungs to each doubling: at most half of the count is added.
 */

/** The least rung that holds `count`; 0 stays 0, which is a shape of its own. */
export function paddedExtent(count: number): number {
  if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`no count: ${count}`);
  if (count <= 4) return count;
  // Above a power of two `below`, the rungs are 1.5 and 2 times that power.
  let below = 4;
  while (below * 2 < count) below *= 2;
  return count <= below * 1.5 ? below * 1.5 : below * 2;
}
