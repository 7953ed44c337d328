/** The mean losses of the adgroups of each size, from the sums that events tell. */

import { at } from '../../shared/base/arrays.js';
import type { SizeLosses } from '../../shared/events/size-losses.js';

export interface SizeMean {
  /** Bounds in support rows: `0-10`, `>300`. */
  readonly size: string;
  readonly taskCount: number;
  /** Query loss after adaptation; null without weight, as without tasks. */
  readonly queryLoss: number | null;
  /** Support loss before adaptation. */
  readonly supportLoss: number | null;
}

/** Means by bucket, in its order. */
export function sizeMeansOf(losses: SizeLosses): SizeMean[] {
  return losses.sizes.map((size, bucket) => {
    const weight = at(losses.weights, bucket);
    const meanOf = (sums: readonly number[]): number | null =>
      weight > 0 ? at(sums, bucket) / weight : null;
    return {
      size,
      taskCount: at(losses.taskCounts, bucket),
      queryLoss: meanOf(losses.queryLossSums),
      supportLoss: meanOf(losses.supportLossSums),
    };
  });
}
