/** The mean losses of the adgroups of each size, from the sums that events tell. */

import { at } from '../../shared/base/arrays.js';
import type { SizeLosses } from '../../shared/events/size-losses.js';

export interface SizeMean {
  /** Bounds in support rows: `0-10`, `>300`. */
  readonly size: string;
  readonly taskCount: number;
  /** Query loss after adaptation; null without weight, as without tasks. */
  readonly queryLoss: number | null;
  /** Query loss before adaptation, in the outer steps that measure it; null where none does. */
  readonly queryLossBefore: number | null;
  /** The fall of the query loss by adaptation, in the same outer steps. */
  readonly gain: number | null;
  /** Support loss before adaptation. */
  readonly supportLoss: number | null;
}

/**
 * Means by bucket, in its order.
 *
 * @param measured sums of the outer steps among them that measure the query loss before adaptation; null for none
 */
export function sizeMeansOf(losses: SizeLosses, measured: SizeLosses | null): SizeMean[] {
  const before = measured?.queryLossBeforeSums ?? [];
  return losses.sizes.map((size, bucket) => {
    const meanOf = (sums: readonly number[], { weights } = losses): number | null => {
      const [sum, weight] = [sums[bucket], at(weights, bucket)];
      return sum !== undefined && weight > 0 ? sum / weight : null;
    };
    const queryLossBefore = meanOf(before, measured ?? losses);
    const after = measured === null ? null : meanOf(measured.queryLossSums, measured);
    return {
      size,
      taskCount: at(losses.taskCounts, bucket),
      queryLoss: meanOf(losses.queryLossSums),
      queryLossBefore,
      gain: queryLossBefore === null || after === null ? null : queryLossBefore - after,
      supportLoss: meanOf(losses.supportLossSums),
    };
  });
}

/** The losses of an outer step, if it measures the query loss before adaptation. */
export function measuredPart(losses: SizeLosses): SizeLosses | null {
  return losses.queryLossBeforeSums === undefined ? null : losses;
}
