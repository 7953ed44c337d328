/** A failure as it travels between processes. It has no stack and no cause, which cannot travel. */

import { z } from 'zod';

export const FailureRecordSchema = z.strictObject({
  kind: z.enum(['usage', 'environment', 'data', 'transient', 'failed', 'interrupted']),
  what: z.string(),
  where: z.string().optional(),
  expected: z.string().optional(),
  found: z.string().optional(),
  cure: z.string().optional(),
  isOfThisMachine: z.literal(true).optional(),
});
export type FailureRecord = z.infer<typeof FailureRecordSchema>;
