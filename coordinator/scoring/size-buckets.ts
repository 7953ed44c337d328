/**
 * Buckets of adgroups by the size of their support set, which decides how much personalisation can
 * do.
 */

import { at } from '../../shared/base/arrays.js';

export interface SizeBucket {
  readonly name: string;
  /** Both bounds included. */
  readonly supportRowCountMin: number;
  readonly supportRowCountMax: number | null;
}

export const EVERY_ADGROUP: SizeBucket = {
  name: 'all',
  supportRowCountMin: 0,
  supportRowCountMax: null,
};

/** `[10, 30]` gives 0-10, 11-30 and above 30 support rows. */
export function sizeBuckets(upperEdges: readonly number[]): SizeBucket[] {
  const edges = [...new Set(upperEdges)].sort((a, b) => a - b);
  const buckets = edges.map((edge, index): SizeBucket => {
    const least = index === 0 ? 0 : at(edges, index - 1) + 1;
    return { name: `${least}-${edge}`, supportRowCountMin: least, supportRowCountMax: edge };
  });
  const last = edges.at(-1);
  if (last !== undefined)
    buckets.push({ name: `>${last}`, supportRowCountMin: last + 1, supportRowCountMax: null });
  return buckets;
}

/** The index within `sizeBuckets` of the bucket for an adgroup with this many support rows. */
export function sizeBucketIndexOf(upperEdges: readonly number[], supportRowCount: number): number {
  return [...new Set(upperEdges)].filter((edge) => supportRowCount > edge).length;
}
