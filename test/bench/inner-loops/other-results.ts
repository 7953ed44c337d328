/** The output of `other-work.ts`, one JSON line per result. */

import { z } from 'zod';

const WorkResultSchema = z.strictObject({
  kind: z.literal('work'),
  name: z.string(),
  tasksPerSecond: z.number(),
  medianMs: z.number(),
  /** Time of the first run, including tracing and compiling. */
  firstMs: z.number(),
  residentMiB: z.number(),
});
const ProfileResultSchema = z.strictObject({
  kind: z.literal('profile'),
  cell: z.string(),
  nodeCount: z.int(),
  recordedNodeCount: z.int(),
  captureMs: z.number(),
  /** Sum over nodes of their individual times. */
  totalMs: z.number(),
  byOp: z.array(
    z.strictObject({ op: z.string(), count: z.int(), totalMs: z.number(), share: z.number() }),
  ),
  largest: z.array(
    z.strictObject({
      operation: z.string(),
      count: z.int(),
      medianMs: z.number(),
      share: z.number(),
      gflops: z.number().nullable(),
    }),
  ),
});
export const OtherResultSchema = z.discriminatedUnion('kind', [
  WorkResultSchema,
  ProfileResultSchema,
]);
export type WorkResult = z.infer<typeof WorkResultSchema>;
export type ProfileResult = z.infer<typeof ProfileResultSchema>;
