/**
 * The messages between a coordinator and a row server over a channel that keeps their order. Typed arrays
 * travel as bytes. Messages are parsed on arrival.
 */

import { z } from 'zod';
import { QianmoError, type FailureReport } from '../../shared/base/errors.js';
import { FailureRecordSchema } from '../../shared/base/failure-record.js';
import { TrainingConfigSchema } from '../../shared/config/training-config.js';
import { BlobRefSchema } from '../../shared/storage/blob-store.js';
import { StorageConfigSchema } from '../../shared/storage/open-object-store.js';
import { StoredTableSchema } from '../checkpoints/checkpoint-manifest.js';

const count = z.int().nonnegative();
// The default type argument of typed arrays excludes views on shared memory, which are fine here.
const int32 = z.custom<Int32Array>((value) => value instanceof Int32Array, 'expected integers');
const float32 = z.custom<Float32Array>((value) => value instanceof Float32Array, 'expected floats');

const InitialisationSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('zeros') }),
  z.strictObject({ kind: z.literal('constant'), value: z.number() }),
  z.strictObject({ kind: z.literal('normal'), deviation: z.number() }),
  z.strictObject({ kind: z.literal('uniform'), bound: z.number() }),
]);

const PlanSchema = z.strictObject({
  frame: z.strictObject({
    tables: z
      .array(z.strictObject({ name: z.string(), rowCount: count, initial: InitialisationSchema }))
      .readonly(),
    tableRowWidth: count,
    hasLinear: z.boolean(),
  }),
  training: TrainingConfigSchema,
  server: count,
  serverCount: z.int().positive(),
  pieceByteCountMax: z.int().positive().optional(),
});

/** From the coordinator. `start` comes first, and the others as often as they are needed. */
export const RowServerRequestSchema = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('start'),
    requestId: count,
    plan: PlanSchema,
    checkpoints: z.strictObject({ address: z.string(), storage: StorageConfigSchema }),
  }),
  z.strictObject({
    ...{ call: z.literal('fresh'), requestId: count, seed: count },
    from: z.strictObject({ address: z.string(), tables: z.array(StoredTableSchema) }).optional(),
  }),
  z.strictObject({
    call: z.literal('load'),
    requestId: count,
    checkpoint: z.strictObject({
      outerStep: count,
      tables: z.array(StoredTableSchema),
      optimizerTables: z.array(StoredTableSchema),
    }),
  }),
  z.strictObject({ call: z.literal('gather'), requestId: count, ids: z.array(int32) }),
  z.strictObject({
    call: z.literal('step'),
    requestId: count,
    step: z.strictObject({
      outerStep: count,
      scalars: z.record(z.string(), z.number()),
      rows: z.map(z.string(), z.strictObject({ ids: int32, values: float32 })),
    }),
  }),
  z.strictObject({ call: z.literal('freeze'), requestId: count }),
  z.strictObject({
    call: z.literal('storePiece'),
    requestId: count,
    place: z.strictObject({
      role: z.enum(['tables', 'optimizerTables']),
      tableIndex: count,
      piece: count,
    }),
    demand: z.strictObject({ storedAt: count.nullable(), wantsValues: z.boolean() }),
  }),
]);
export type RowServerRequest = z.infer<typeof RowServerRequestSchema>;

/** To the coordinator: one for each request, in any order. */
export const RowServerReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('done'), requestId: count }),
  z.strictObject({ kind: z.literal('rows'), requestId: count, rows: float32 }),
  z.strictObject({
    kind: z.literal('piece'),
    requestId: count,
    blob: BlobRefSchema.nullable(),
    values: float32.nullable(),
  }),
  z.strictObject({ kind: z.literal('failed'), requestId: count, report: FailureRecordSchema }),
  /** A bug of the row server. */
  z.strictObject({ kind: z.literal('broken'), requestId: count, message: z.string() }),
]);
export type RowServerReply = z.infer<typeof RowServerReplySchema>;

/** A failure without stack and cause, which cannot cross to another process. */
export function failedReply(requestId: number, error: unknown): RowServerReply {
  if (!(error instanceof QianmoError)) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { kind: 'broken', requestId, message };
  }
  const { kind, what, where, expected, found, cure, cause } = error.report;
  const because = found ?? (cause instanceof Error ? cause.message : undefined);
  const parts = { where, expected, found: because, cure };
  return { kind: 'failed', requestId, report: { kind, what, ...withoutAbsent(parts) } };
}

export function errorOfReply(reply: Extract<RowServerReply, { kind: 'failed' | 'broken' }>): Error {
  if (reply.kind === 'broken') return new Error(`a row server hit a bug: ${reply.message}`);
  const { kind, what, ...parts } = reply.report;
  return new QianmoError({ kind, what, ...withoutAbsent(parts) });
}

type TextParts = Partial<Record<'where' | 'expected' | 'found' | 'cure', string | undefined>>;

/** Optional parts of a report must be absent and not undefined. */
function withoutAbsent(
  parts: TextParts,
): Pick<FailureReport, 'where' | 'expected' | 'found' | 'cure'> {
  return Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined));
}
