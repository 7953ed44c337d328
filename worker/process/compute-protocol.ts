/**
 * The messages between a worker and its compute process over the channel of the fork. Advanced
 * serialization sends typed arrays as bytes. Small records are parsed on arrival.
 *
 * A job may come while another one is computed, and begins as soon as that one has ended. Shared inputs (the dense ones
 * of an outer step and the frozen ones of a run) are sent before, in separate messages, because a received array
 * keeps its whole message in memory.
 */

import { z } from 'zod';
import {
  failureRecordOf,
  FailureRecordSchema,
  type FailureRecord,
} from '../../shared/base/failure-record.js';
import { isRecord } from '../../shared/base/canonical-json.js';
import { DeviceDemandSchema } from '../../shared/config/compute-config.js';
import type { GivenTasks } from '../../shared/queue/job-executor.js';
import type { Job } from '../../shared/queue/protocol.js';
import { eventSchemaOf } from '../../shared/events/event-lines.js';
import { DeviceReportSchema, FingerprintSchema } from '../../shared/events/device-report.js';

const requestId = z.int().nonnegative();
// The default type argument of `Uint8Array` excludes views on shared memory, which are fine here.
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');

/**
 * The number of inputs of each kind that a compute process holds: dense ones of this outer step and
 * the next, frozen ones of two runs that take turns.
 */
export const SHARED_KEPT_COUNT = 2;
/** The jobs that a compute process holds at once: one is computed, the others wait for their turn. */
export const HELD_JOB_COUNT_MAX = 2;
const SharedKindSchema = z.enum(['dense', 'frozen']);
export type SharedKind = z.infer<typeof SharedKindSchema>;

/** The progress of a job. */
const JobProgressSchema = z.strictObject({
  phase: z.enum(['reading', 'computing']),
  /** The current micro-batch, counted from 1. */
  microBatch: z.strictObject({ number: z.int().positive(), count: z.int().positive() }).optional(),
});
export type JobProgress = z.infer<typeof JobProgressSchema>;
/** Called at each phase and before each micro-batch. It is cheap, so callers need not limit calls. */
export type OnProgress = (progress: JobProgress) => void;

/** The parent, which is of the same build, has parsed it: doing so again would keep the thread from computing. */
const parsedJob = z.custom<Job>(isRecord, 'expected a job');

const givenTasks = z.custom<GivenTasks>(isRecord, 'expected rows of tasks');

/** Messages from parent to child. */
export const ComputeRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('start'),
    device: DeviceDemandSchema,
    /** The addon of loops over table rows; null where the parent has none. */
    rowAddon: z.string().nullable(),
  }),
  /** Kept by content in a cache of `SHARED_KEPT_COUNT` for each kind, which the parent mirrors. */
  z.strictObject({
    kind: z.literal('shared'),
    of: SharedKindSchema,
    sha256: z.string(),
    bytes,
  }),
  /** Computes a job, which names its shared inputs. */
  z.strictObject({
    kind: z.literal('execute'),
    requestId,
    job: parsedJob,
    rowPack: bytes.nullable(),
    /** Absent where a store has the rows. */
    given: givenTasks.optional(),
  }),
  /** Drops a job that has not begun; one that has begun is computed and answered. */
  z.strictObject({ kind: z.literal('drop'), requestId }),
]);

/** Messages from child to parent. */
export const ComputeReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), device: DeviceReportSchema }),
  /** An event that belongs to no request; sent at any time. */
  z.strictObject({
    kind: z.literal('event'),
    event: eventSchemaOf('backend-portable'),
  }),
  z.strictObject({
    kind: z.literal('done'),
    requestId,
    output: bytes,
    queryRowCount: z.int().nonnegative(),
    computeMs: z.number().nonnegative(),
    backend: z.string(),
    fingerprint: FingerprintSchema,
    /** The resident memory of the process, including native memory. */
    residentByteCount: z.int().positive(),
  }),
  z.strictObject({
    kind: z.literal('failed'),
    /** Null for a failed start and for a message that could not be parsed. */
    requestId: requestId.nullable(),
    report: FailureRecordSchema,
    residentByteCount: z.int().positive(),
  }),
  /** Sent at each phase, and at a bounded rate within a phase. */
  z.strictObject({ kind: z.literal('progress'), requestId, progress: JobProgressSchema }),
]);

export type ComputeRequest = z.infer<typeof ComputeRequestSchema>;
export type ComputeReply = z.infer<typeof ComputeReplySchema>;

const BUG = {
  what: 'the compute process hit a bug',
  cure: 'report it with the config of the run',
};

/** A failure of a compute process, as its parent is told. */
export function computeFailureOf(thrown: unknown): FailureRecord {
  return failureRecordOf(thrown, BUG);
}
