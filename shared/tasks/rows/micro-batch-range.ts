/** Which micro-batches of a gradient job a part of it computes. */

import { z } from 'zod';

const index = z.int().nonnegative();

/** Some of the micro-batches of a gradient job, in the order in which they are summed. */
export const MicroBatchRangeSchema = z
  .strictObject({
    first: index,
    /** Behind the last one. A part that does not begin with the first micro-batch has only one. */
    end: index,
    /** That of the whole job. A worker that cuts the job into another number refuses it. */
    count: index,
    /** The number of their tasks. */
    taskCount: z.int().positive(),
  })
  .refine(
    ({ first, end, count }) => first < end && end <= count && (first === 0 || end === first + 1),
    'expected the leading micro-batches of a job, or one of the others',
  );

export type MicroBatchRange = z.infer<typeof MicroBatchRangeSchema>;
