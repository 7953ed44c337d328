/**
 * The parcel: several small jobs that go to a worker as one entry of the queue, and whose results come back as
 * one (decision 0048). Each job keeps its id, its record and its own fate; only their way is shared.
 */

import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { isRecord } from '../base/canonical-json.js';
import { PROTOCOL_VERSION, type Job, type JobResult } from './protocol.js';
import { PARCEL_JOB_COUNT_MAX } from './timing.js';

const FieldsSchema = z.record(z.string(), z.unknown());

const JobParcelSchema = z.strictObject({
  protocolVersion: z.literal(PROTOCOL_VERSION),
  runId: z.string(),
  epoch: z.int().nonnegative(),
  /** The fields that all jobs have alike, and those of their work: they travel once. */
  alike: FieldsSchema,
  workAlike: FieldsSchema,
  /** The rest of each job. The worker parses a job when it is whole again. */
  parcel: z
    .array(z.strictObject({ jobId: z.string(), own: FieldsSchema, workOwn: FieldsSchema }))
    .min(2)
    .max(PARCEL_JOB_COUNT_MAX),
});
export type JobParcel = z.infer<typeof JobParcelSchema>;

/** A job of a parcel: it was done, it failed with this text, or its worker has not begun it and leaves it to others. */
const OutcomeSchema = z.union([
  z.strictObject({ jobId: z.string(), result: z.unknown() }),
  z.strictObject({ jobId: z.string(), failure: z.string() }),
  z.strictObject({ jobId: z.string(), isHandedBack: z.literal(true) }),
]);
const ParcelResultSchema = z.strictObject({
  outcomes: z.array(OutcomeSchema).max(PARCEL_JOB_COUNT_MAX),
});

export type ParcelOutcome = { readonly jobId: string } & (
  { readonly result: JobResult } | { readonly failure: string } | { readonly isHandedBack: true }
);
export interface ParcelResult {
  readonly outcomes: readonly ParcelOutcome[];
}

/** A job by its id. The data are whatever their producer wrote, so the reader checks them. */
interface UnpackedJob {
  readonly jobId: string;
  readonly data: unknown;
}

type Fields = Readonly<Record<string, unknown>>;

/** @param jobs of one run; at least two. */
export function packedJobs(
  jobs: readonly { readonly jobId: string; readonly job: Job }[],
): JobParcel {
  const [first] = jobs;
  if (first === undefined) throw new Error('a parcel has jobs');
  const { runId, epoch } = first.job;
  const outer = jobs.map(({ job }): Fields => {
    const { work: _work, ...fields } = job;
    return fields;
  });
  const works = jobs.map(({ job }): Fields => job.work);
  const [alike, workAlike] = [alikeIn(outer), alikeIn(works)];
  return {
    ...{ protocolVersion: PROTOCOL_VERSION, runId, epoch, alike, workAlike },
    parcel: jobs.map(({ jobId }, place) => ({
      jobId,
      own: without(outer[place] ?? {}, alike),
      workOwn: without(works[place] ?? {}, workAlike),
    })),
  };
}

/** The jobs of an entry that is a parcel; null if it is none, or a malformed one. */
export function unpackedJobs(data: unknown): UnpackedJob[] | null {
  if (!isRecord(data) || !('parcel' in data)) return null;
  const parsed = JobParcelSchema.safeParse(data);
  if (!parsed.success) return null;
  const { alike, workAlike, parcel } = parsed.data;
  return parcel.map(({ jobId, own, workOwn }) => ({
    jobId,
    data: { ...alike, ...own, work: { ...workAlike, ...workOwn } },
  }));
}

/** The outcome that a worker reports of each job of a parcel, by id; null if it cannot be read. */
export function outcomesIn(
  returnValue: unknown,
): ReadonlyMap<string, z.infer<typeof OutcomeSchema>> | null {
  const parsed = ParcelResultSchema.safeParse(returnValue);
  if (!parsed.success) return null;
  return new Map(parsed.data.outcomes.map((outcome) => [outcome.jobId, outcome]));
}

/** The time that an entry of the queue was computed for. */
export function computeMsOf(result: JobResult | ParcelResult): number {
  if (!('outcomes' in result)) return result.computeMs;
  return result.outcomes.reduce(
    (sum, outcome) => sum + ('result' in outcome ? outcome.result.computeMs : 0),
    0,
  );
}

/** The fields of the first record that all others have with the same value. */
function alikeIn(records: readonly Fields[]): Record<string, unknown> {
  const [first = {}, ...others] = records;
  const isAlike = ([name, value]: [string, unknown]): boolean =>
    others.every((other) => isDeepStrictEqual(other[name], value));
  return Object.fromEntries(Object.entries(first).filter(isAlike));
}

function without(record: Fields, alike: Fields): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !Object.hasOwn(alike, name)));
}
