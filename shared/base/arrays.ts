/** Checked access to arrays, and the median. */

/**
 * The element at `index`. TypeScript cannot know that an index is within bounds. A default in place
 * of the element would turn a wrong index into a wrong number, so this throws.
 */
export function at<Element>(elements: ArrayLike<Element>, index: number): Element {
  // An element may itself be undefined, so the bounds are checked instead.
  if (!(index >= 0 && index < elements.length && Number.isInteger(index)))
    throw new RangeError(`there is no element ${index} among ${elements.length}`);
  // Within bounds, so the element is there.
  return elements[index] as Element;
}

/** The middle value, or the mean of the middle two. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('no values have no median');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? at(sorted, middle)
    : (at(sorted, middle - 1) + at(sorted, middle)) / 2;
}

/**
 * The elements that belong to part `index` when parts lie end to end: their first place, and the place
 * behind the last. `starts` holds the first place of each part, and the total at the end.
 */
export function spanAt(starts: ArrayLike<number>, index: number): [start: number, end: number] {
  return [at(starts, index), at(starts, index + 1)];
}

/** Called before a loop over several arrays, so that the loop need not check each index. */
export function demandSameLength(...arrays: readonly ArrayLike<unknown>[]): void {
  const lengths = new Set(arrays.map(({ length }) => length));
  if (lengths.size > 1)
    throw new RangeError(`arrays of different lengths: ${[...lengths].join(', ')}`);
}
