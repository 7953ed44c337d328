/**
 * RunConfig: everything one run is. Parsed once, strictly, from one YAML file; frozen; hashed.
 * The hash covers what decides the meta-parameters and nothing else.
 */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson, isRecord } from '../base/canonical-json.js';
import { MethodConfigSchema, methodMisfits, methodPlanOf } from '../methods/methods.js';
import { EVALUATED_ARMS } from './arms.js';
import { AddressSchema, DataConfigSchema } from './data-config.js';
import { featureMisfits, ModelConfigSchema } from '../models/model-config.js';
import { StorageConfigSchema } from '../storage/open-object-store.js';

const positiveInt = z.int().positive();
const rate = z.number().positive().max(100);

export const OptimizerConfigSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('adam'),
    rate: rate.default(0.001),
    firstMomentDecay: z.number().min(0).lt(1).default(0.9),
    secondMomentDecay: z.number().min(0).lt(1).default(0.999),
    epsilon: z.number().positive().default(1e-8),
    /** What epsilon is added to: the root of the second moment once corrected, or as it is. */
    epsilonOn: z.enum(['corrected', 'raw']).default('corrected'),
    /**
     * Table rows that no task of an outer step touched keep still. Without it their moments decay
     * and move them on, as in plain Adam: better avoided but for comparisons (decision 0011).
     */
    lazy: z.boolean().default(true),
  }),
  z.strictObject({
    kind: z.literal('sgd'),
    rate: rate.default(0.1),
    momentum: z.number().min(0).lt(1).default(0),
  }),
]);

export const ScheduleConfigSchema = z.strictObject({
  /** Linear rise from 0 over this many outer steps. */
  warmupOuterSteps: z.int().nonnegative().default(0),
  /** What follows the rise, until the last outer step. */
  decay: z.enum(['none', 'linear', 'cosine']).default('none'),
  /** The share of the rate that is left at the end of the decay. */
  finalShare: z.number().min(0).max(1).default(0),
});

/**
 * Tasks enter the training one after another: the eligible share of them grows from `startShare` to 1
 * in `stageCount` equal rises, equally spaced over the first `growthShare` of the outer steps.
 */
export const CurriculumConfigSchema = z.strictObject({
  /**
   * `age`: in order of the time they were first seen, or by size when the logs have no time; `size`:
   * the largest first, since an old adgroup has had time for many rows.
   */
  by: z.enum(['age', 'size']).default('age'),
  startShare: z.number().gt(0).max(1).default(0.2),
  growthShare: z.number().gt(0).lt(1).default(0.5),
  stageCount: positiveInt.max(1000).default(10),
});
export type CurriculumConfig = z.infer<typeof CurriculumConfigSchema>;

export const TrainingConfigSchema = z
  .strictObject({
    outerSteps: positiveInt.max(10_000_000).default(500),
    tasksPerOuterStep: positiveInt.max(1_000_000).default(64),
    /** The fixed chunk of tasks of one job; part of what a digest stands for. */
    tasksPerJob: positiveInt.max(65536).default(16),
    /**
     * Rows, padding included, that are computed at once: bounds the memory of a job, and belongs
     * to what a digest stands for. A task with more rows is computed alone.
     */
    microBatchRowsMax: positiveInt.max(16_777_216).default(16_384),
    /**
     * How often tasks are drawn: `uniform` alike; `sequential` the catalog over and over in its order;
     * `proportional` (once called `rows`) and `square-root` by their rows; `size-buckets` gives
     * buckets of adgroups by size equal shares.
     */
    sampling: z
      .enum(['uniform', 'sequential', 'proportional', 'square-root', 'size-buckets', 'rows'])
      .default('uniform'),
    /** Upper edges of the buckets of `size-buckets`, in support rows. */
    sizeBucketEdges: z.array(positiveInt).min(1).optional(),
    /** Which tasks may be drawn at an outer step; without it, all of them at each. */
    curriculum: CurriculumConfigSchema.optional(),
    /** How task gradients are weighted within an outer step. */
    taskWeight: z.enum(['uniform', 'examples', 'sqrt']).default('uniform'),
    optimizer: OptimizerConfigSchema.prefault({ kind: 'adam' }),
    /**
     * The variables, blocks and features with a table that learn; all when absent. The rest is
     * frozen.
     */
    trainable: z.array(z.string().min(1)).min(1).optional(),
    /**
     * The output of another run on the same task store: outer step 0 begins with what it has
     * learned, and whatever it does not have begins at its initial values.
     */
    startFrom: AddressSchema.optional(),
    schedule: ScheduleConfigSchema.prefault({}),
    /** L2 norm beyond which the meta-gradient is scaled down. */
    gradientNormMax: z.number().positive().default(10),
    /** Pulls trunk and tables towards 0, in proportion to the rate (decoupled, AdamW). */
    weightDecay: z.number().min(0).max(1).default(0),
    checkpointEveryOuterSteps: positiveInt.default(100),
    checkpointsKept: positiveInt.max(1000).default(3),
  })
  .superRefine(({ sampling, sizeBucketEdges, tasksPerJob, tasksPerOuterStep }, context) => {
    if (sizeBucketEdges !== undefined && sampling !== 'size-buckets')
      context.addIssue({
        code: 'custom',
        path: ['sizeBucketEdges'],
        message: `only sampling: size-buckets reads it, and sampling is ${sampling}`,
      });
    if (tasksPerJob > tasksPerOuterStep)
      context.addIssue({
        code: 'custom',
        path: ['tasksPerJob'],
        message: `must not exceed tasksPerOuterStep: ${tasksPerJob} > ${tasksPerOuterStep}`,
      });
  });

export const QueueConfigSchema = z.strictObject({
  /** `embedded` starts a Redis server for this command and stops it afterwards. */
  redisUrl: z
    .string()
    .regex(/^(embedded|rediss?:\/\/.+)$/, 'expected embedded or redis://host:port')
    .default('embedded'),
  /** In braces, so that Redis Cluster keeps one queue in one slot. */
  prefix: z
    .string()
    .regex(/^\{[a-z0-9-]+\}$/, 'expected letters in braces, as in {qianmo}')
    .default('{qianmo}'),
  jobTimeoutMs: positiveInt.max(86_400_000).default(120_000),
  jobAttemptsMax: positiveInt.max(100).default(5),
  /** Longest wait for the results of one outer step before the run gives up, resumable. */
  outerStepTimeoutMs: positiveInt.default(900_000),
  blobByteCountMax: positiveInt.default(512 * 1024 * 1024),
  /** Tables that no outer step changes go whole to each worker, once, up to so many bytes together. */
  frozenTablesByteCountMax: z
    .int()
    .nonnegative()
    .default(256 * 1024 * 1024),
  /** How long a blob in Redis outlives its last use. */
  blobLifetimeMs: positiveInt.default(3_600_000),
});

export const EvaluationConfigSchema = z.strictObject({
  arms: z
    .array(z.enum(EVALUATED_ARMS))
    .min(1)
    .default([...EVALUATED_ARMS]),
  /** The grid of every adapted arm; the best cell on the validation tasks is used on the test tasks. */
  innerRates: z.array(rate).min(1).default([0.01, 0.03, 0.1, 0.3, 1]),
  innerSteps: z.array(positiveInt.max(1000)).min(1).default([1, 2, 5, 10, 20]),
  /** Upper edges of the adgroup-size buckets, in support rows. */
  sizeBucketEdges: z.array(positiveInt).default([10, 30, 100, 300]),
  bootstrapSamples: z.int().min(100).max(100_000).default(2000),
  confidence: z.number().gt(0.5).lt(1).default(0.95),
  calibrationBins: z.int().min(2).max(1000).default(20),
  /** Of labels that are values: places of an adgroup's ranking that count in nDCG. */
  ndcgAt: positiveInt.max(1000).default(5),
  /**
   * Numbers of support rows: a k-shot curve, for which every arm adapts on the first so many of each
   * test adgroup's support rows.
   */
  shots: z.array(z.int().nonnegative()).min(1).max(100).optional(),
  /**
   * Cold, warm-a, warm-b, ... (Pan et al., SIGIR 2019): metrics on the query rows after 0, 1, 2, ...
   * successive minibatches of each test adgroup's support rows, each going on from the blocks of
   * the one before. The arms' settings are chosen anew on validation adgroups, after the last phase.
   */
  phases: z
    .strictObject({
      count: positiveInt.max(25).default(3),
      rowsPerPhase: positiveInt.max(65_536).default(20),
    })
    .optional(),
  /** Progressive validation by day: rows are predicted by what adapted on the days before theirs. */
  progressive: z
    .strictObject({
      periodSeconds: z.number().positive().default(86_400),
      /** Each period is a pass over its adgroups; beyond this many the evaluation is refused. */
      periodsMax: positiveInt.default(60),
    })
    .optional(),
  /** A column of known true click probabilities (synthetic logs): adds the oracle arm. */
  oracleColumn: z.string().min(1).optional(),
});

/** `auto`: a GPU where there is one; `gpu`: none but a GPU; `cpu`: none but the CPU. */
export const DeviceDemandSchema = z.enum(['auto', 'cpu', 'gpu']);
export type DeviceDemand = z.infer<typeof DeviceDemandSchema>;

/** What the jobs of a run may be computed on. */
export const ComputeConfigSchema = z.strictObject({
  /** Of every worker that takes a job of this run, wherever it was started. */
  device: DeviceDemandSchema.default('auto'),
});

const RunFieldsSchema = z.strictObject({
  /** Names the run on the queue and in its folder. */
  run: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected lower-case letters, digits and -'),
  seed: z.int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  data: DataConfigSchema,
  model: ModelConfigSchema.prefault({}),
  method: MethodConfigSchema.prefault({ kind: 'fomaml' }),
  training: TrainingConfigSchema.prefault({}),
  /** Where the global arm departs from `training`; the budget is the same unless said here. */
  globalTraining: z
    .strictObject({
      optimizer: OptimizerConfigSchema.optional(),
      outerSteps: positiveInt.max(10_000_000).optional(),
    })
    .prefault({}),
  evaluation: EvaluationConfigSchema.prefault({}),
  compute: ComputeConfigSchema.prefault({}),
  queue: QueueConfigSchema.prefault({}),
  /** Checkpoints, reports and logs of the run: a folder or `s3://bucket/prefix`. */
  output: AddressSchema,
  storage: StorageConfigSchema.prefault({}),
});

export const RunConfigSchema = RunFieldsSchema.superRefine((config, context) => {
  const { data, model, method, training, evaluation } = config;
  for (const { path, message } of featureMisfits(model, data.features))
    context.addIssue({ code: 'custom', path: ['model', ...path], message });
  for (const { path, message } of methodMisfits(method, model))
    context.addIssue({ code: 'custom', path: ['method', ...path], message });
  if (methodPlanOf(method).learns === 'method' && training.startFrom === undefined)
    context.addIssue({
      code: 'custom',
      path: ['training', 'startFrom'],
      message: `${method.kind} keeps the model as it is: name the output of a run that has trained it`,
    });
  if (evaluation.progressive !== undefined && data.time === undefined)
    context.addIssue({
      code: 'custom',
      path: ['evaluation', 'progressive'],
      message: 'rows are replayed in order of time: it needs data.time',
    });
});

export type RunConfig = z.infer<typeof RunConfigSchema>;

export type TrainingConfig = z.infer<typeof TrainingConfigSchema>;
export type ScheduleConfig = z.infer<typeof ScheduleConfigSchema>;
export type QueueConfig = z.infer<typeof QueueConfigSchema>;
export type EvaluationConfig = z.infer<typeof EvaluationConfigSchema>;

/**
 * The part of a config that decides the meta-parameters. Queue, storage, evaluation and retention
 * may change between stop and resume; these may not.
 */
export function decidingPart(config: RunConfig): Record<string, unknown> {
  const {
    checkpointEveryOuterSteps: _every,
    checkpointsKept: _kept,
    ...training
  } = config.training;
  return {
    seed: config.seed,
    model: config.model,
    method: config.method,
    training,
  };
}

/** SHA-256 of the deciding part, independent of the order of keys. */
export function configHash(config: RunConfig): string {
  return createHash('sha256')
    .update(canonicalJson(decidingPart(config)))
    .digest('hex');
}

/** Paths at which two deciding parts differ, each as `training.outerSteps: 100 -> 200`. */
export function configDifferences(before: unknown, after: unknown, path = ''): string[] {
  if (canonicalJson(before) === canonicalJson(after)) return [];
  if (!isRecord(before) || !isRecord(after))
    return [`${path}: ${canonicalJson(before)} -> ${canonicalJson(after)}`];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return keys.flatMap((key) =>
    configDifferences(before[key], after[key], path === '' ? key : `${path}.${key}`),
  );
}
