/**
 * The messages about live rows between the processes on one port and their parent, which has the log and the compute
 * process that adapts.
 */

import { z } from 'zod';
import { isRecord } from '../../../shared/base/canonical-json.js';
import { FailureRecordSchema } from '../../../shared/base/failure-record.js';
import type { AdaptInput } from '../adaptation/adapt-jobs.js';

const count = z.int().nonnegative();
const text = z.string();
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');
/** The blob that rows became under the bundle of the process that put them. */
const adapted = z.strictObject({ bundle: z.string(), output: bytes }).nullable();

/** To a process. */
export const RowsOrderSchema = z.discriminatedUnion('kind', [
  /** Rows that are on disk, in the order of the log. If the process has put them, its request is named and the text is empty. */
  z.strictObject({
    ...{ kind: z.literal('stored'), order: count, request: count.nullable(), text, adapted },
  }),
  /** The answer to a request. */
  z.strictObject({ kind: z.literal('put'), request: count, outcome: z.enum(['stored', 'full']) }),
  z.strictObject({ kind: z.literal('keys'), request: count, keys: z.array(z.string()) }),
  z.strictObject({ kind: z.literal('read'), request: count, text: text.nullable() }),
  z.strictObject({ kind: z.literal('started'), request: count }),
  z.strictObject({ kind: z.literal('adapted'), request: count, output: bytes }),
  /** The parent lacks the frozen input of the job, which is to be sent once more with it. */
  z.strictObject({ kind: z.literal('frozen-wanted'), request: count }),
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
    adapted,
  }),
  z.strictObject({ kind: z.literal('keys'), request: count }),
  z.strictObject({ kind: z.literal('read'), request: count, key: z.string() }),
  /** Has the compute process of the parent ready. */
  z.strictObject({ kind: z.literal('start'), request: count }),
  /** A job for that process. Its frozen input is most often there. */
  z.strictObject({
    ...{ kind: z.literal('adapt'), request: count },
    input: z.custom<AdaptInput>(isRecord, 'expected a job'),
  }),
]);
export type RowsReply = z.infer<typeof RowsReplySchema>;
