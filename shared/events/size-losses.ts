/** The losses of an outer step by the size of the adgroups' support sets, as events tell them. */

import { z } from 'zod';

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
