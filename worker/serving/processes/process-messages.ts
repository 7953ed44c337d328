/** The messages between the processes that answer requests on one port and their parent. */

import { z } from 'zod';
import { FailureRecordSchema } from '../../../shared/base/failure-record.js';
import { MetricsSnapshotSchema } from '../../../shared/metrics/metric-registry.js';
import { RowsOrderSchema, RowsReplySchema } from './rows-messages.js';

const count = z.int().nonnegative();

/** The number of processes that are wanted, and of those that answer now. */
const ProcessCountsSchema = z.strictObject({ wanted: count, ready: count });
export type ProcessCounts = z.infer<typeof ProcessCountsSchema>;

/** The fate of a connection that was handed to a process: it reads from it, it has not got it, or it takes no more. */
const HandedOutcomeSchema = z.enum(['taken', 'missing', 'closing']);
export type HandedOutcome = z.infer<typeof HandedOutcomeSchema>;

/** To a process. */
export const ServingOrderSchema = z.discriminatedUnion('kind', [
  /** `request` is that of `serveRankings`, which parses it. */
  z.strictObject({ kind: z.literal('start'), place: count, request: z.unknown() }),
  z.strictObject({ kind: z.literal('counts'), counts: ProcessCountsSchema }),
  /** With the socket. */
  z.strictObject({ kind: z.literal('connection'), number: count }),
  /** Asks whether the connection of that number has come, the last one of all. */
  z.strictObject({ kind: z.literal('missing'), number: count }),
  z.strictObject({ kind: z.literal('rows'), rows: RowsOrderSchema }),
  /** Asks for the metrics of the process. */
  z.strictObject({ kind: z.literal('metrics'), question: count }),
  z.strictObject({ kind: z.literal('drain') }),
]);
export type ServingOrder = z.infer<typeof ServingOrderSchema>;

/** From a process. */
export const ServingReplySchema = z.discriminatedUnion('kind', [
  /** The first of all: what was sent before would have been lost. */
  z.strictObject({ kind: z.literal('listening') }),
  z.strictObject({ kind: z.literal('ready'), bundle: z.string(), scorer: z.string() }),
  z.strictObject({
    ...{ kind: z.literal('connection'), number: count, outcome: HandedOutcomeSchema },
  }),
  z.strictObject({ kind: z.literal('swapped'), bundle: z.string() }),
  z.strictObject({ kind: z.literal('event'), line: z.string() }),
  z.strictObject({ kind: z.literal('rows'), rows: RowsReplySchema }),
  z.strictObject({ kind: z.literal('metrics'), question: count, values: MetricsSnapshotSchema }),
  z.strictObject({ kind: z.literal('failed'), failure: FailureRecordSchema }),
]);
export type ServingReply = z.infer<typeof ServingReplySchema>;
