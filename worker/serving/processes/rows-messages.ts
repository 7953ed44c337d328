/** The messages about live rows between the processes on one port and their parent, which has the log. */

import { z } from 'zod';
import { FailureRecordSchema } from '../../../shared/base/failure-record.js';

const count = z.int().nonnegative();
const text = z.string();

/** To a process. */
export const RowsOrderSchema = z.discriminatedUnion('kind', [
  /** Rows that are on disk, in the order of the log. If the process has put them, its request is named and the text is empty. */
  z.strictObject({ kind: z.literal('stored'), order: count, request: count.nullable(), text }),
  /** The answer to a request. */
  z.strictObject({ kind: z.literal('put'), request: count, outcome: z.enum(['stored', 'full']) }),
  z.strictObject({ kind: z.literal('keys'), request: count, keys: z.array(z.string()) }),
  z.strictObject({ kind: z.literal('read'), request: count, text: text.nullable() }),
  z.strictObject({ kind: z.literal('failed'), request: count, failure: FailureRecordSchema }),
]);
export type RowsOrder = z.infer<typeof RowsOrderSchema>;

/** From a process. */
export const RowsReplySchema = z.discriminatedUnion('kind', [
  /** It serves what an order has stored. */
  z.strictObject({ kind: z.literal('served'), order: count }),
  /** Requests, by numbers that the process does not use again. */
  z.strictObject({
    ...{ kind: z.literal('put'), request: count },
    rows: z.strictObject({ key: z.string(), isEmpty: z.boolean(), text }),
  }),
  z.strictObject({ kind: z.literal('keys'), request: count }),
  z.strictObject({ kind: z.literal('read'), request: count, key: z.string() }),
]);
export type RowsReply = z.infer<typeof RowsReplySchema>;
