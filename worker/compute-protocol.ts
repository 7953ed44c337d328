/**
 * What the worker and its compute process say to each other over the fork's channel (advanced
 * serialization: typed arrays travel as bytes). Small records are parsed where they arrive.
 */

import { z } from 'zod';
import { QianmoError, type FailureReport } from '../shared/errors.js';
import { JobSchema } from '../shared/protocol.js';

const requestId = z.int().nonnegative();
// The default type argument of `Uint8Array` excludes views on shared memory, which are fine here.
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');

export const BackendChoiceSchema = z.enum(['auto', 'tensorflow', 'wasm', 'cpu']);
export type BackendChoice = z.infer<typeof BackendChoiceSchema>;

/** Parent to child. */
export const ComputeRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('start'),
    backend: BackendChoiceSchema,
    storeCacheByteCountMax: z.int().nonnegative(),
  }),
  z.strictObject({
    kind: z.literal('execute'),
    requestId,
    job: JobSchema,
    dense: bytes,
    rowPack: bytes,
  }),
]);

const FailureReportSchema = z.strictObject({
  kind: z.enum(['usage', 'environment', 'data', 'transient', 'failed', 'interrupted']),
  what: z.string(),
  where: z.string().optional(),
  expected: z.string().optional(),
  found: z.string().optional(),
  cure: z.string().optional(),
});

/** Child to parent. */
export const ComputeReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), backend: z.string() }),
  z.strictObject({ kind: z.literal('warning'), message: z.string() }),
  z.strictObject({
    kind: z.literal('done'),
    requestId,
    output: bytes,
    weightedQueryLoss: z.number(),
    weightedSupportLoss: z.number(),
    queryRowCount: z.int().nonnegative(),
    computeMs: z.number().nonnegative(),
    backend: z.string(),
  }),
  /** Of the request under way: there is one at a time. */
  z.strictObject({ kind: z.literal('failed'), report: FailureReportSchema }),
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
