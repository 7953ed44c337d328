/**
 * What the worker and its compute process say to each other over the fork's channel (advanced
 * serialization: typed arrays travel as bytes). Small records are parsed where they arrive.
 *
 * A job is sent in two messages: `prepare` with its inputs, at any time, and `execute` when its turn
 * has come. Bytes that jobs share, dense ones of an outer step and frozen ones of a run, travel before in
 * messages of their own: a received array keeps its whole message in memory.
 */

import { z } from 'zod';
import { QianmoError, type FailureReport } from '../../shared/base/errors.js';
import { DeviceDemandSchema } from '../../shared/config/run-config.js';
import { JobSchema, LossSchema } from '../../shared/queue/protocol.js';
import { eventSchemaOf } from '../../shared/events/event-lines.js';
import { DeviceReportSchema } from '../../shared/events/device-report.js';
import { BackendChoiceSchema } from '../compute/engine/backend-choice.js';

const requestId = z.int().nonnegative();
// The default type argument of `Uint8Array` excludes views on shared memory, which are fine here.
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');

/**
 * Inputs that a compute process holds of each kind: dense ones of this outer step and the next, frozen
 * ones of two runs that take turns.
 */
export const SHARED_KEPT_COUNT = 2;
export const SharedKindSchema = z.enum(['dense', 'frozen']);
export type SharedKind = z.infer<typeof SharedKindSchema>;

/** What a job is at. The thread is blocked in all phases but `reading`. */
const JobProgressSchema = z.strictObject({
  phase: z.enum(['reading', 'computing']),
  /** Under way: the `number`-th from 1 of `count`. */
  microBatch: z.strictObject({ number: z.int().positive(), count: z.int().positive() }).optional(),
});
export type JobProgress = z.infer<typeof JobProgressSchema>;
/** Called at each phase and before each micro-batch; cheap, so that the caller need not count. */
export type OnProgress = (progress: JobProgress) => void;

/** Parent to child. */
export const ComputeRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('start'),
    backend: BackendChoiceSchema,
    device: DeviceDemandSchema,
    storeCacheByteCountMax: z.int().nonnegative(),
  }),
  /** Kept by content in a cache of `SHARED_KEPT_COUNT` for each kind, which the parent mirrors. */
  z.strictObject({
    kind: z.literal('shared'),
    of: SharedKindSchema,
    sha256: z.string(),
    bytes,
  }),
  /** Replaces an earlier one that was not executed. The shared bytes are those the job names. */
  z.strictObject({
    kind: z.literal('prepare'),
    requestId,
    job: JobSchema,
    rowPack: bytes.nullable(),
  }),
  /** Of what was prepared under the same id. */
  z.strictObject({ kind: z.literal('execute'), requestId }),
]);

const FailureReportSchema = z.strictObject({
  kind: z.enum(['usage', 'environment', 'data', 'transient', 'failed', 'interrupted']),
  what: z.string(),
  where: z.string().optional(),
  expected: z.string().optional(),
  found: z.string().optional(),
  cure: z.string().optional(),
  isOfThisMachine: z.literal(true).optional(),
});

/** Child to parent. */
export const ComputeReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), device: DeviceReportSchema }),
  /** Of the process as a whole, at any time. */
  z.strictObject({
    kind: z.literal('event'),
    event: z.union([eventSchemaOf('backend-portable'), eventSchemaOf('micro-batch-halved')]),
  }),
  z.strictObject({
    kind: z.literal('done'),
    requestId,
    output: bytes,
    weightedQueryLoss: LossSchema,
    weightedSupportLoss: LossSchema,
    queryRowCount: z.int().nonnegative(),
    computeMs: z.number().nonnegative(),
    backend: z.string(),
    /** Memory that the process holds, native memory included. */
    residentByteCount: z.int().positive(),
  }),
  z.strictObject({
    kind: z.literal('failed'),
    /** Null when it is of no job: the start, or a message that could not be read. */
    requestId: requestId.nullable(),
    report: FailureReportSchema,
    residentByteCount: z.int().positive(),
  }),
  /** At each phase, and at a bounded rate within one. */
  z.strictObject({ kind: z.literal('progress'), requestId, progress: JobProgressSchema }),
]);

export type ComputeRequest = z.infer<typeof ComputeRequestSchema>;
export type ComputeReply = z.infer<typeof ComputeReplySchema>;
export type FailureRecord = z.infer<typeof FailureReportSchema>;

/** A failure as a record: what crosses the process boundary has no stack and no cause object. */
export function failureRecordOf(error: unknown): FailureRecord {
  if (!(error instanceof QianmoError))
    return {
      kind: 'failed',
      what: 'the compute process met a bug',
      found: error instanceof Error ? error.message : String(error),
      cure: 'report it with the config of the run',
    };
  const { cause, ...record } = error.report;
  if (cause instanceof Error && record.found === undefined)
    return { ...record, found: cause.message };
  return record;
}

export function errorFromRecord(record: FailureRecord): QianmoError {
  // `undefined` parts are dropped, so only parts that are there remain.
  const parts = Object.fromEntries(Object.entries(record).filter(([, part]) => part !== undefined));
  const { kind, what } = record;
  return new QianmoError({ ...(parts as Partial<FailureReport>), kind, what });
}
