/** The losses of an outer step by the size of the adgroups' support sets: the sums that events tell, and their means. */

import { z } from 'zod';
import { at } from '../base/arrays.js';

/** Bounds jobs, results and events. The last bucket takes the adgroups of those beyond. */
export const SIZE_BUCKETS_MAX = 16;
const NAME_LENGTH_MAX = 40;

function ofEach<Item>(item: z.ZodType<Item>) {
  return z.array(item).min(1).max(SIZE_BUCKETS_MAX);
}

/**
 * Columns with a value for each bucket. The sums of several buckets or outer steps are those of their tasks together;
 * a mean loss is a sum of losses divided by that of the weights. A bucket without tasks has zeros.
 */
export const SizeLossesSchema = z
  .strictObject({
    /** Bounds in support rows, ascending: `0-10`, `>300`. */
    sizes: ofEach(z.string().max(NAME_LENGTH_MAX)),
    taskCounts: ofEach(z.int().nonnegative()),
    /** Sums of task weights. Those of all tasks of an outer step, batches of trunk rows included, are 1. */
    weights: ofEach(z.number().nonnegative()),
    /** Sums of task weight * query loss after adaptation. */
    queryLossSums: ofEach(z.number()),
    /** Sums of task weight * support loss before adaptation. */
    supportLossSums: ofEach(z.number()),
    /** Sums of task weight * query loss before adaptation, in the outer steps that measure it. */
    queryLossBeforeSums: ofEach(z.number()).optional(),
  })
  .refine(
    ({ sizes, ...columns }) =>
      Object.values(columns).every((column) => (column ?? sizes).length === sizes.length),
    'expected as many values in each column as there are sizes',
  );
export type SizeLosses = z.infer<typeof SizeLossesSchema>;

interface SizeMean {
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
