/** The few statistics that results are made of. */

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('the median of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

export function geometricMean(values: readonly number[]): number {
  if (values.length === 0) throw new Error('the mean of nothing');
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** Largest difference over the largest expected size; NaN counts as infinitely far. */
export function largestRelativeError(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
): number {
  if (found.length !== expected.length) return Infinity;
  let scale = 0;
  let difference = 0;
  for (let index = 0; index < expected.length; index += 1) {
    const wanted = expected[index] ?? NaN;
    const apart = Math.abs((found[index] ?? NaN) - wanted);
    scale = Math.max(scale, Math.abs(wanted));
    difference = Math.max(difference, Number.isNaN(apart) ? Infinity : apart);
  }
  if (difference === 0) return 0;
  return scale === 0 ? Infinity : difference / scale;
}
