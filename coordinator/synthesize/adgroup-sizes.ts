/** The impressions of each adgroup: a bounded Zipf law whose sum is exactly the rows of the log. */

import { uint32At } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';

interface SizeLaw {
  readonly exponent: number;
  readonly impressionsMin: number;
  /** Largest share of all rows that one adgroup may have. */
  readonly shareMax: number;
}

/**
 * Sizes by rank, largest first: n_r = clamp(C / r^exponent, min, max) with C such that they sum to
 * `rows`. With few adgroups, the largest may have up to four times its fair share.
 * @returns [adgroupCount]
 * @throws QianmoError of kind `usage` if there are too few rows
 */
export function zipfSizes(rows: number, adgroupCount: number, law: SizeLaw): Uint32Array {
  if (rows < adgroupCount * law.impressionsMin)
    throw new QianmoError({
      kind: 'usage',
      what: 'too few rows for so many adgroups',
      expected: `at least ${law.impressionsMin} rows per adgroup`,
      found: `${rows} rows and ${adgroupCount} adgroups`,
      cure: `ask for at most ${Math.floor(rows / law.impressionsMin)} adgroups or for more rows`,
    });
  const impressionsMax = Math.ceil(rows * Math.max(law.shareMax, Math.min(1, 4 / adgroupCount)));
  const weights = new Float64Array(adgroupCount);
  for (let rank = 0; rank < adgroupCount; rank += 1)
    weights[rank] = Math.pow(rank + 1, -law.exponent);
  const sizeAt = (weight: number, scale: number): number =>
    Math.min(impressionsMax, Math.max(law.impressionsMin, Math.floor(weight * scale)));
  const sumAt = (scale: number): number => {
    let sum = 0;
    for (const weight of weights) sum += sizeAt(weight, scale);
    return sum;
  };
  let low = 0;
  let high = rows;
  while (sumAt(high) < rows) high *= 2;
  for (let halving = 0; halving < 80; halving += 1) {
    const middle = (low + high) / 2;
    if (sumAt(middle) <= rows) low = middle;
    else high = middle;
  }
  const sizes = Uint32Array.from(weights, (weight) => sizeAt(weight, low));
  giveRemainder(sizes, rows - sumAt(low), impressionsMax);
  return sizes;
}

/** Distributes what rounding left over, one impression each, from the largest adgroup down. */
function giveRemainder(sizes: Uint32Array, remainder: number, impressionsMax: number): void {
  let left = remainder;
  while (left > 0)
    for (let rank = 0; rank < sizes.length && left > 0; rank += 1) {
      const size = uint32At(sizes, rank);
      if (size >= impressionsMax) continue;
      sizes[rank] = size + 1;
      left -= 1;
    }
}
