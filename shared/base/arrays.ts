/** Checked access to arrays and typed arrays, and the median. */

/**
 * The element at `index`. TypeScript cannot know that an index is within bounds. A default in place
 * of the element would turn a wrong index into a wrong number, so this throws.
 */
export function at<Element>(elements: ArrayLike<Element>, index: number): Element {
  // An element may itself be undefined, so the bounds are checked instead.
  if (!(index >= 0 && index < elements.length && Number.isInteger(index))) refuse(elements, index);
  // Within bounds, so the element is there.
  return elements[index] as Element;
}

/*
 * Checked reads for loops over numbers. There is one function for each type of array because V8 compiles
 * a function for the types that it has seen: a read that sees one type becomes the bare load with its
 * bounds check. `at`, which sees them all, takes some thirty times as long.
 *
 * The iterator of a typed array (`for (const value of values)`) takes three to eight times as long as an index.
 *
 * Loops that only add or scale millions of floats are a fifth to a half slower even so. They read
 * `values[index] ?? NaN`, which is free: a wrong index makes their result NaN, which the meta-optimizer,
 * the worker or the report refuses. The default is never written to an array of integers or compared.
 */

export function float32At(values: Float32Array, index: number): number {
  return values[index] ?? refuse(values, index);
}

export function float64At(values: Float64Array, index: number): number {
  return values[index] ?? refuse(values, index);
}

export function int32At(values: Int32Array, index: number): number {
  return values[index] ?? refuse(values, index);
}

export function uint32At(values: Uint32Array, index: number): number {
  return values[index] ?? refuse(values, index);
}

export function uint8At(values: Uint8Array, index: number): number {
  return values[index] ?? refuse(values, index);
}

/** For values that the caller may keep in arrays of a few types, such as counts. */
export function numberAt(values: ArrayLike<number>, index: number): number {
  return values[index] ?? refuse(values, index);
}

function refuse({ length }: ArrayLike<unknown>, index: number): never {
  throw new RangeError(`there is no element ${index} among ${length}`);
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
export function requireSameLength(...arrays: readonly ArrayLike<unknown>[]): void {
  const lengths = new Set(arrays.map(({ length }) => length));
  if (lengths.size > 1)
    throw new RangeError(`arrays of different lengths: ${[...lengths].join(', ')}`);
}

/** At most `countMax` of the values, evenly spread and in their order. */
export function spreadOver<Value>(values: readonly Value[], countMax: number): Value[] {
  if (values.length <= countMax) return [...values];
  return Array.from({ length: countMax }, (_, index) =>
    at(values, Math.floor((index * values.length) / countMax)),
  );
}

/** Memory that holds anything: the caller writes every byte. Filling it with zeros first takes longer than most writes. */
export function unfilledBytes(byteCount: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(byteCount).buffer);
}

/** The caller writes every value. */
export function unfilledFloats(count: number): Float32Array<ArrayBuffer> {
  return new Float32Array(unfilledBytes(count * Float32Array.BYTES_PER_ELEMENT).buffer);
}
