/**
 * The contract between coordinator and workers: what a job says and what a result says.
 *
 * Terms: a *job* is one queue entry. A *gradient* job computes consecutive leaves of an outer step and returns one
 * sum for each node of the sum tree that they make up. A *predict* job returns logits after given numbers of
 * inner steps. An *adapt* job returns the adapted tasks themselves, so that others can score rows of
 * theirs later. A *features* job returns what a block would be fitted on. A *join* job adds the sums of other jobs, which stayed in the store. Tensors travel as blobs (`storage/blob-store.ts`); this file holds only the small
 * records, each parsed strictly where it arrives.
 *
 * Input blobs of a job, all in safetensors layout (decision 0014):
 *   dense     dense variables by name: those that outer steps change
 *   rowPack   one tensor `rows` `[packRowCount, tableRowWidth]`, laid out by `tasks/row-pack.ts`
 *   frozen    the other dense variables by name and, in a job without row pack, `rows`
 *             `[sum of table rows, tableRowWidth]`: every table whole, in the order of the spec
 * Output blob of a gradient job, by `sums/delivered-sums.ts`: for each node `N.dense` and `N.rows`, and the losses of
 * its tasks. If its sums stay in the store for a join, that blob stays with the ids of the rows, and the output has the
 * losses alone. A join job has no tasks, and the output of a gradient job.
 * Output blob of a predict job:
 *   logits    `[settingCount, queryRowCount]`, tasks in order of the job, rows in order of the task
 * Output blob of an adapt job: `shared/bundle/adapted-tasks.ts`.
 * Output blob of a features job, tasks in order of the job, rows in order of the task:
 *   slopes    `[rowCount, count]`: the derivatives of each logit in the personal parameters
 *   logits    `[rowCount]`: under the personal parameters that its task starts from
 */

import { StorageConfigSchema } from '../storage/open-object-store.js';
import { z } from 'zod';
import { BlobRefSchema, type BlobRef } from '../storage/blob-store.js';
import { DeviceDemandSchema } from '../config/compute-config.js';
import { FingerprintSchema } from '../events/device-report.js';
import { ModelConfigSchema } from '../models/model-config.js';
import {
  RowDivisionSchema,
  type RowDivision,
  type DrawnRows,
  type IdDropout,
} from '../tasks/task-copies.js';
import { DROPOUT_RATE_MAX } from '../config/training-config.js';
import { MethodConfigSchema } from '../methods/methods.js';
import { LruCache } from '../base/lru-cache.js';

/** Values that differ, for some runs and evaluations that take turns. */
const REMEMBERED_COUNT_MAX = 16;

/**
 * Parses equal values once: a worker meets the same section in every job of a run. What it returns is shared, so
 * nobody may change it.
 */
function remembered<Output>(schema: z.ZodType<Output>): z.ZodType<Output> {
  const parsedByText = new LruCache<string, { readonly value: Output }>({
    countMax: REMEMBERED_COUNT_MAX,
  });
  return z.unknown().transform((section, context): Output => {
    const text = textOf(section);
    const known = text === null ? undefined : parsedByText.get(text);
    if (known !== undefined) return known.value;
    const parsed = schema.safeParse(section);
    if (parsed.success) {
      if (text !== null) parsedByText.put(text, { value: parsed.data });
      return parsed.data;
    }
    for (const { path, message } of parsed.error.issues)
      context.issues.push({ code: 'custom', path: [...path], message, input: section });
    return z.NEVER;
  });
}

/** Null for a value that cannot be written: none, or one that is nested too deeply. */
function textOf(section: unknown): string | null {
  try {
    const text: unknown = JSON.stringify(section);
    return typeof text === 'string' ? text : null;
  } catch {
    return null;
  }
}

/**
 * Passes lists of good numbers as they are, since the schema calls another one for each number, on which a worker spends a
 * tenth of its time. What is not good is left to the schema, which says where and why.
 *
 * @param isGood true only for numbers that the schema takes.
 */
export function quickNumberList(
  schema: z.ZodType<number[]>,
  isGood: (number: number) => boolean,
): z.ZodType<number[]> {
  return z.unknown().transform((list, context): number[] => {
    if (isListOf(list, isGood)) return list;
    const parsed = schema.safeParse(list);
    if (parsed.success) return parsed.data;
    for (const { path, message } of parsed.error.issues)
      context.issues.push({ code: 'custom', path: [...path], message, input: list });
    return z.NEVER;
  });
}

/** False for an empty list, which not every schema takes. */
function isListOf(list: unknown, isGood: (number: number) => boolean): list is number[] {
  if (!Array.isArray(list) || list.length === 0) return false;
  for (let place = 0; place < list.length; place += 1) {
    const value: unknown = list[place];
    if (typeof value !== 'number' || !isGood(value)) return false;
  }
  return true;
}

/** Not negative, and finite. */
export function isWeight(number: number): boolean {
  return number >= 0 && number < Number.POSITIVE_INFINITY;
}

export function isIndex(number: number): boolean {
  return Number.isSafeInteger(number) && number >= 0;
}

/** Raised when the meaning of jobs or results changes. A worker refuses jobs of another version. */
export const PROTOCOL_VERSION = 1;

export const INNER_LOOP_QUEUE = 'inner-loops';

/** The largest job with its signature. Its fingerprint does not count: the run may get one after the first delivery. */
export const JOB_BYTE_COUNT_MAX = 64 * 1024;

/** The name of the field `fingerprint`, and a fingerprint. */
const FINGERPRINT_BYTE_COUNT = 256;
/** The queue refuses larger job data. A job that fits once fits again with a fingerprint. */
export const QUEUED_BYTE_COUNT_MAX = JOB_BYTE_COUNT_MAX + FINGERPRINT_BYTE_COUNT;

const index = z.int().nonnegative();

const weights = quickNumberList(z.array(z.number().nonnegative()), isWeight);
const dropoutRate = z.number().min(0).max(DROPOUT_RATE_MAX);

/** More padded tasks or rows than any device computes at once. */
const EXTENT_MAX = 2 ** 24;
const extent = index.max(EXTENT_MAX);

/** One leaf: the number of its tasks, then the extents that they are padded to (`MicroBatch`). */
const LeafShapeSchema = z.tuple([
  z.int().positive().describe('tasks'),
  z.int().positive().max(EXTENT_MAX).describe('padded tasks'),
  extent.describe('padded support rows of each task'),
  extent.describe('padded query rows of each task'),
  extent.describe('padded rows, end to end'),
]);

const LeavesSchema = z
  .strictObject({
    /** The place of the first leaf among those of the outer step. */
    first: index,
    /** The number of leaves of the outer step, which fixes the tree. */
    stepLeafCount: z.int().positive(),
    shapes: z.array(LeafShapeSchema).min(1),
  })
  .refine(({ first, stepLeafCount, shapes }) => first + shapes.length <= stepLeafCount, {
    error: 'expected leaves of the outer step',
  });

const GradientWorkSchema = z.strictObject({
  kind: z.literal('gradient'),
  method: remembered(MethodConfigSchema),
  /** Weight of each task of the job in the outer step; the coordinator makes them sum to 1. */
  taskWeights: weights,
  /** The same for the cold term of the outer loss; absent when the method has none. */
  coldTaskWeights: weights.optional(),
  /** The variables and tables whose gradient is wanted; all that the method learns when absent. */
  learned: z
    .strictObject({ variables: z.array(z.string()), tables: z.array(z.string()) })
    .optional(),
  /**
   * The rates of dropping at random, by the seed of the run and the outer step: `units`, that of hidden units; `inputs`,
   * that of the values which the first hidden layer reads; `ids`, the rates of ids, which coordinator and worker
   * replace alike. Absent: nothing.
   */
  dropout: z
    .strictObject({
      seed: index,
      units: dropoutRate.optional(),
      inputs: dropoutRate.optional(),
      ids: z.union([dropoutRate, z.record(z.string(), dropoutRate)]).optional(),
    })
    .optional(),
  /**
   * By task, the places of the rows that were drawn, ascending, or in episodes support rows first. Absent: all rows are
   * read.
   */
  drawnRows: z.array(quickNumberList(z.array(index).min(1), isIndex)).optional(),
  /** By task, the number of support rows of its episode. */
  drawnSupportCounts: z.array(index).optional(),
  /** Asks for the query loss before adaptation as well, which takes another forward pass. */
  queryLossBefore: z.literal(true).optional(),
  /** The leaves that the job computes: its tasks, in their order. */
  leaves: LeavesSchema,
});

/** One cell of an adaptation grid; `innerSteps` 0 means without adaptation. */
const AdaptationSchema = z.strictObject({
  innerRate: z.number().positive(),
  innerSteps: z.int().nonnegative(),
});

const PredictWorkSchema = z.strictObject({
  kind: z.literal('predict'),
  /** How tasks adapt; with `global`, by plain gradient descent. */
  method: remembered(MethodConfigSchema),
  adaptations: z.array(AdaptationSchema).min(1).max(256),
  /** Which rows get logits: the query rows, or the support rows (for shifts fitted on them). */
  rows: z.enum(['query', 'support']),
  /** Absent: support and query rows are those of the store. */
  division: RowDivisionSchema.optional(),
});

/**
 * Adapts tasks as a predict job with the same tasks and division adapts them, so that the bits are the
 * same: both cut their tasks into the same micro-batches (decision 0022).
 */
const AdaptWorkSchema = z.strictObject({
  kind: z.literal('adapt'),
  method: remembered(MethodConfigSchema),
  adaptation: AdaptationSchema,
  /** The rows that tasks adapt on: the support rows, or all rows that the division leaves. */
  rows: z.enum(['support', 'all']),
  division: RowDivisionSchema.optional(),
});

/** Writes all rows of tasks as features of the personal parameters, in which logits are linear. */
const FeatureWorkSchema = z.strictObject({
  kind: z.literal('features'),
  method: remembered(MethodConfigSchema),
  division: RowDivisionSchema.optional(),
});

/** Adds nodes of the sum tree that are in the store. A worker needs neither model nor tasks for it. */
const JoinWorkSchema = z.strictObject({
  kind: z.literal('join'),
  /** The number of leaves of the outer step, which fixes the tree. */
  stepLeafCount: z.int().positive(),
  /** They make up one node together. */
  nodes: z.array(z.strictObject({ first: index, end: index, sum: BlobRefSchema })).min(2),
});

const LargeBlobsSchema = z.strictObject({
  /** A folder that all machines see, or `s3://BUCKET/PREFIX`. */
  address: z.string().min(1).max(1_024),
  /** Smaller blobs lie beside the queue. */
  byteCountMin: z.int().positive(),
  storage: StorageConfigSchema,
});
/** The object store of the blobs from a size on. */
export type LargeBlobs = z.infer<typeof LargeBlobsSchema>;

export const JobSchema = z.strictObject({
  protocolVersion: z.literal(PROTOCOL_VERSION),
  runId: z.string().min(1).max(128),
  epoch: index,
  outerStep: index,
  jobIndex: index,
  /** A worker that computes on another device refuses the job and leaves it to others. */
  device: DeviceDemandSchema,
  /** Whether it is computed with the instruction set that all machines of a pool have. */
  portable: z.boolean(),
  /**
   * The kind of machine that must compute it, once the run has one. Other workers refuse the job and
   * leave it to others.
   */
  fingerprint: FingerprintSchema.optional(),
  dense: BlobRefSchema,
  rowPack: BlobRefSchema.optional(),
  frozen: BlobRefSchema.optional(),
  /** Counted from the start of the computation. */
  timeoutMs: z.int().positive(),
  /** The lifetime of the job's blobs after their last use, including its output. */
  blobLifetimeMs: z.int().positive(),
  /** Absent where all blobs lie beside the queue. */
  largeBlobs: remembered(LargeBlobsSchema).optional(),
  store: z.strictObject({
    address: z.string().min(1),
    /** Digest of the manifest; a worker refuses a store whose digest differs. */
    digest: z.string(),
    /** The access to addresses at `s3://`. */
    storage: remembered(StorageConfigSchema),
  }),
  model: remembered(ModelConfigSchema),
  taskIndices: quickNumberList(z.array(index).min(1), isIndex),
  /** Bounds the padded rows that a predict or adapt job computes at once. The leaves of a gradient job say theirs. */
  microBatchRowsMax: z.int().positive(),
  work: z.discriminatedUnion('kind', [
    GradientWorkSchema,
    PredictWorkSchema,
    AdaptWorkSchema,
    FeatureWorkSchema,
  ]),
  /** Whether the sums stay in the store, where a join finds them. */
  keepsSums: z.literal(true).optional(),
});

export const JoinJobSchema = JobSchema.extend({
  taskIndices: z.array(index).max(0),
  work: JoinWorkSchema,
});

export const JobResultSchema = z.strictObject({
  protocolVersion: z.literal(PROTOCOL_VERSION),
  runId: z.string(),
  outerStep: index,
  jobIndex: index,
  output: BlobRefSchema,
  /** Sums that stay in the store; absent where the output has them. */
  sums: z.strictObject({ blob: BlobRefSchema, isFinite: z.boolean() }).optional(),
  taskCount: index,
  queryRowCount: z.int().nonnegative(),
  computeMs: z.number().nonnegative(),
  /** The time until the worker had the inputs, or their names where the compute process reads them itself; absent without a queue. */
  fetchMs: z.number().nonnegative().optional(),
  /** The time until the blobs had the output; absent without a queue. */
  uploadMs: z.number().nonnegative().optional(),
  worker: z.string(),
  /** `tfjs-node-gpu 4.22.0, TensorFlow 2.21.0, CPU` */
  backend: z.string(),
  fingerprint: FingerprintSchema,
});

/** A job that an executor computes. */
export type Job = z.infer<typeof JobSchema>;
export type JoinJob = z.infer<typeof JoinJobSchema>;
/** What the queue carries. */
export type CarriedJob = Omit<Job, 'work'> & Pick<Job | JoinJob, 'work'>;
export type JobResult = z.infer<typeof JobResultSchema>;
/** A task store as a job names it. */
export type StoreReference = Job['store'];
export type GradientWork = z.infer<typeof GradientWorkSchema>;
export type PredictWork = z.infer<typeof PredictWorkSchema>;
export type AdaptWork = z.infer<typeof AdaptWorkSchema>;
export type FeatureWork = z.infer<typeof FeatureWorkSchema>;
export type Adaptation = z.infer<typeof AdaptationSchema>;
export type JobWork = Job['work'];

/** The number of tasks whose results a job returns. */
export function taskCountOf({ taskIndices }: Pick<Job, 'taskIndices'>): number {
  return taskIndices.length;
}

/** The blobs that a job needs. */
export function inputRefsOf({ dense, rowPack, frozen, work }: CarriedJob): BlobRef[] {
  const nodes = work.kind === 'join' ? work.nodes.map(({ sum }) => sum) : [];
  return [dense, rowPack, frozen, ...nodes].filter((ref) => ref !== undefined);
}

/** The leaves of its outer step that a job computes; one for a job of an evaluation. */
export function leafCountOf({ work }: Pick<CarriedJob, 'work'>): number {
  if (work.kind === 'join') return 0;
  return work.kind === 'gradient' ? work.leaves.shapes.length : 1;
}

/** How a job divides the rows of its tasks; undefined where as the store does. */
export function divisionOf(work: JobWork): RowDivision | undefined {
  return work.kind === 'gradient' ? undefined : work.division;
}

/** The rows of its tasks that a job reads; null where all of them. */
export function drawnRowsOf(work: CarriedJob['work']): DrawnRows | null {
  if (work.kind !== 'gradient' || work.drawnRows === undefined) return null;
  return { byTask: work.drawnRows, supportCounts: work.drawnSupportCounts ?? null };
}

/** The ids that a job leaves out; null where it leaves out none. */
export function idDropoutOf({
  work,
  outerStep,
}: Pick<CarriedJob, 'work' | 'outerStep'>): IdDropout | null {
  const { seed, ids: rates } = (work.kind === 'gradient' ? work.dropout : undefined) ?? {};
  return seed === undefined || rates === undefined ? null : { rates, seed, outerStep };
}

/** Derived from the job, so that a job enqueued twice is one job. BullMQ refuses ids with a colon. */
export function jobIdOf(job: CarriedJob, attempt: number): string {
  return `${job.runId}-${job.work.kind}-${job.outerStep}-${job.jobIndex}-a${attempt}`;
}

/**
 * Follows `jobIdOf` in the id of a delivery: the nonce of the coordinator's start, and the number of the
 * call in it.
 */
export function startSuffixOf(start: string, callNumber: number): string {
  return `${start}-${callNumber}`;
}

/** The nonce of the start that has added a job, which `startSuffixOf` put into its id. Empty without one. */
export function startOf(jobId: string): string {
  return /-([^-]+)-\d+$/.exec(jobId)?.[1] ?? '';
}

/**
 * Whether the data of a job are of this run and of an earlier epoch, or of none. The data are whatever
 * their producer wrote, so they are looked at and not trusted.
 */
export function isLeftover(data: unknown, runId: string, epoch: number): boolean {
  if (typeof data !== 'object' || data === null || !('runId' in data)) return false;
  if (data.runId !== runId) return false;
  return !('epoch' in data && typeof data.epoch === 'number' && data.epoch >= epoch);
}
