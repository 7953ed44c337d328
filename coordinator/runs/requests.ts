/**
 * The options of every function of the library, checked once where they enter. A misspelt option is
 * an error. The command line takes its bounds from here.
 */

import { z } from 'zod';
import { QianmoError } from '../../shared/base/errors.js';
import { AutoTrialsMaxSchema, BudgetMinutesSchema } from '../../shared/config/auto-config.js';
import { describeIssues } from '../../shared/config/config-issues.js';
import { DeviceDemandSchema } from '../../shared/config/compute-config.js';
import type { ExplorationConfigSchema } from '../../shared/config/exploration-config.js';
import type { RunConfigSchema } from '../../shared/config/run-config.js';
import type { SweepConfigSchema } from '../../shared/config/sweep-config.js';
import { LATEST_LABEL } from '../../shared/bundle/bundle-labels.js';
import { BLOCK_ENCODINGS } from '../../shared/bundle/ranking-model.js';
import { ROW_COUNT_MAX } from '../synthesize/row-count.js';
import { WORLD_SETTINGS } from '../synthesize/synthesis.js';

export const LOCAL_WORKERS_MAX = 256;
export const PLANNED_WORKERS_MAX = 100_000;
export const GBIT_PER_S_MAX = 10_000;
/** A usual network of a data center. */
export const GBIT_PER_S_DEFAULT = 10;
/** The queue prefix of a config that names none. */
export const QUEUE_PREFIX_DEFAULT = '{qianmo}';

/**
 * A config: the path of a YAML file (also `file://PATH` or `s3://BUCKET/KEY`), or the same fields as
 * an object. Relative paths in it are seen from the current folder of the process.
 */
export type RunConfigSource = string | z.input<typeof RunConfigSchema>;
export type SweepConfigSource = string | z.input<typeof SweepConfigSchema>;
/** A run config, or its section `exploration` alone. */
export type PolicySource =
  RunConfigSource | { readonly exploration: z.input<typeof ExplorationConfigSchema> };

function configSource<Source>(): z.ZodType<Source, Source> {
  return z.custom<Source>(
    (value) =>
      (typeof value === 'string' && value !== '') ||
      (typeof value === 'object' && value !== null && !Array.isArray(value)),
    'expected the path of a YAML file, or an object',
  );
}

const text = z.string().min(1, 'expected a value');

/**
 * Selects what computes the jobs. By default, processes of this machine without a queue, as many as pay off. With
 * `redis`, or a Redis server in the config, workers that serve a queue there.
 */
const dispatchFields = {
  /** The number of processes of this machine, without a queue, whatever Redis server is named. */
  processes: z.int().min(1).max(LOCAL_WORKERS_MAX).optional(),
  /** The Redis server of a queue, instead of the one in the config. */
  redis: text.optional(),
  /** Workers of this machine on a queue, which is on a Redis server of their own unless one is named. */
  workers: z.int().min(1).max(LOCAL_WORKERS_MAX).optional(),
};

const ONE_WAY_TO_START = { error: 'cannot be given with resume', path: ['fresh'] };

interface Starting {
  readonly resume: boolean;
  readonly fresh: boolean;
}
const startsOneWay = ({ resume, fresh }: Starting): boolean => !resume || !fresh;

export const PrepareRequestSchema = z.strictObject({
  config: configSource<RunConfigSource>(),
  /** Prepare again even if the store was made from the same logs and config. */
  force: z.boolean().default(false),
});

const trainingFields = {
  /** Continue from the latest checkpoint. */
  resume: z.boolean().default(false),
  /** Start again although checkpoints of this run exist. */
  fresh: z.boolean().default(false),
};

export const TrainingStartSchema = z
  .strictObject(trainingFields)
  .refine(startsOneWay, ONE_WAY_TO_START);

export const TrainRequestSchema = z
  .strictObject({
    config: configSource<RunConfigSource>(),
    ...dispatchFields,
    ...trainingFields,
    /** Serve the queue board while training; an event has its address. */
    dashboard: z.boolean().default(false),
  })
  .refine(startsOneWay, ONE_WAY_TO_START);

const evaluationFields = {
  /** The Parquet file that takes the predictions of every arm, row by row. */
  predictions: text.optional(),
  /** Train the global arm again. */
  fresh: z.boolean().default(false),
};

export const EvaluationChoiceSchema = z.strictObject(evaluationFields);

export const EvaluateRequestSchema = z.strictObject({
  config: configSource<RunConfigSource>(),
  ...dispatchFields,
  ...evaluationFields,
});

export const ExportRequestSchema = z.strictObject({
  config: configSource<RunConfigSource>(),
  ...dispatchFields,
  /** Folder or `s3://` prefix of the bundles; `bundles` in the output of the run if absent. */
  out: text.optional(),
  /** How the values of personal blocks are stored. */
  encoding: z.enum(BLOCK_ENCODINGS).default('float32'),
  /** The rows that adgroups adapt on: as evaluated, or all that the task store has. */
  rows: z.enum(['support', 'all']).default('support'),
  /** The label that is moved to the bundle. */
  label: text.default(LATEST_LABEL),
});

export const ExportChangedRequestSchema = z.strictObject({
  config: configSource<RunConfigSource>(),
  ...dispatchFields,
  /** Folder or `s3://` prefix of the bundles; `bundles` in the output of the run if absent. */
  out: text.optional(),
  /** The label whose bundle has changed, and that is moved to the new one. */
  label: text.default(LATEST_LABEL),
});

export const RefreshRequestSchema = z.strictObject({
  ...ExportChangedRequestSchema.shape,
  /** Paths, folders, globs or `s3://` addresses of the new logs. */
  logs: z.union([text, z.array(text).min(1)]),
  /** Outer steps of meta-training on the grown store; the trunk stays as it is if absent. */
  outerSteps: z.int().min(1).max(1_000_000).optional(),
});

const HOURS_MAX = 24 * 365;

export const PruneRequestSchema = z.strictObject({
  bundles: text,
  /** Earlier bundles of each label that are kept. */
  keep: z.int().min(0).max(100).default(3),
  /** Hours for which everything is kept after it was written. */
  graceHours: z.number().min(0).max(HOURS_MAX).default(24),
  dryRun: z.boolean().default(false),
});

/** Bundles under one address. */
export const BundlesRequestSchema = z.strictObject({ bundles: text });

const labelFields = { bundles: text, label: text };

export const BundleLabelRequestSchema = z.strictObject({
  ...labelFields,
  /** A label, or the digest of a bundle or its beginning. */
  bundle: text,
});

export const BundleRollbackRequestSchema = z.strictObject(labelFields);

export const OpenRequestSchema = z.strictObject({
  config: configSource<RunConfigSource>(),
  ...dispatchFields,
});

export const CompareRequestSchema = z.strictObject({
  /** Output folders, `s3://` prefixes or config files of evaluated runs; `RUN:ARM` names an arm. */
  runs: z.array(text),
  /** Folder or `s3://` prefix for comparison.html and comparison.json; they are not written if absent. */
  out: text.optional(),
  /** Upper edges of the size buckets in support rows; those of the first run if absent. */
  sizeBucketEdges: z.array(z.int().positive()).optional(),
  /** The segment to compare, of runs whose tasks have segments. */
  segment: text.optional(),
});

export const SweepRequestSchema = z
  .strictObject({
    config: configSource<SweepConfigSource>(),
    ...dispatchFields,
    ...trainingFields,
  })
  .refine(startsOneWay, ONE_WAY_TO_START);

export const AutoRequestSchema = z
  .strictObject({
    config: configSource<RunConfigSource>(),
    ...dispatchFields,
    ...trainingFields,
    /** The time of the search, instead of what the config says. */
    budgetMinutes: BudgetMinutesSchema.optional(),
    /** The number of trials at most, instead of what the config says. */
    trialsMax: AutoTrialsMaxSchema.optional(),
  })
  .refine(startsOneWay, ONE_WAY_TO_START);

export const PlanRequestSchema = z.strictObject({
  config: configSource<RunConfigSource>(),
  /** The number of workers to predict, in addition to those of the table. */
  workers: z.int().min(1).max(PLANNED_WORKERS_MAX).default(1_000),
  /** The rate at which the queue server sends inputs and sums. */
  gbitPerS: z.int().min(1).max(GBIT_PER_S_MAX).default(GBIT_PER_S_DEFAULT),
});

const rowCount = z.int().min(1).max(ROW_COUNT_MAX);

export const SynthesizeRequestSchema = z.strictObject({
  /** The file to write; its name ends in .csv, .csv.gz or .parquet. */
  out: text,
  /** Impressions. */
  rows: rowCount.default(1_000_000),
  /** How far adgroups deviate from what their attributes explain. */
  setting: z.enum(WORLD_SETTINGS).default('strong'),
  /** Mean click rate. */
  clickRate: z.number().gt(0).lt(1).default(0.03),
  /** The same seed gives the same bytes. */
  seed: z.int().nonnegative().default(1),
  /** Number of adgroups; in proportion to the rows if absent. */
  adgroups: rowCount.optional(),
  /** Number of users; in proportion to the rows if absent. */
  users: rowCount.optional(),
});

export const CheckRequestSchema = z.strictObject({
  /** Checks the store, queue and output of this run too. */
  config: configSource<RunConfigSource>().optional(),
  redis: text.optional(),
  device: DeviceDemandSchema.default('auto'),
});

export const OpeRequestSchema = z.strictObject({
  /** Logs of decisions and outcomes (.ndjson, .jsonl), or tables of choices (.csv, .tsv, .parquet). */
  logs: z.array(text).min(1),
  /** A config whose section `exploration`, alone or of a run, is the target policy of a decision log; by default that of the log. */
  policy: configSource<PolicySource>().optional(),
  /** Columns of a table. */
  columns: z
    .strictObject({
      reward: text.default('reward'),
      propensity: text.default('propensity'),
      target: text.default('target'),
      estimate: text.optional(),
      targetEstimate: text.optional(),
      decision: text.optional(),
    })
    .refine(
      ({ estimate, targetEstimate }) => (estimate === undefined) === (targetEstimate === undefined),
      {
        error: 'estimate and targetEstimate are given together',
        path: ['targetEstimate'],
      },
    )
    .prefault({}),
  /** Switch-DR trusts the model alone where the weight is larger. */
  switchWeight: z.number().positive().default(10),
  /** Bootstrap samples behind each interval. */
  samples: z.int().min(100).max(100_000).default(2000),
  confidence: z.number().gt(0.5).lt(1).default(0.95),
  seed: z.int().nonnegative().default(0),
});

export const ReplayRequestSchema = z.strictObject({
  /** Logs of decisions and outcomes. */
  logs: z.array(text).min(1),
});

const controlFields = {
  /** The name of a run that is being computed over this queue. */
  run: text,
  redis: text,
  prefix: text.default(QUEUE_PREFIX_DEFAULT),
};

export const ControlRequestSchema = z.strictObject(controlFields);

/** `600`: 600 outer steps altogether; `+100`: 100 more than it has. */
const OuterStepsSchema = z
  .string()
  .regex(/^\+?[1-9]\d{0,7}$/, 'expected a number of outer steps, as 600 or +100')
  .transform((steps) => ({ count: Number(steps), isAdded: steps.startsWith('+') }));

export const ExtendRequestSchema = z.strictObject({
  ...controlFields,
  outerSteps: OuterStepsSchema,
});

export type ControlRequest = z.input<typeof ControlRequestSchema>;
export type ExtendRequest = z.input<typeof ExtendRequestSchema>;
export type PrepareRequest = z.input<typeof PrepareRequestSchema>;
export type TrainRequest = z.input<typeof TrainRequestSchema>;
export type TrainingStart = z.input<typeof TrainingStartSchema>;
export type EvaluateRequest = z.input<typeof EvaluateRequestSchema>;
export type EvaluationChoice = z.input<typeof EvaluationChoiceSchema>;
export type ExportRequest = z.input<typeof ExportRequestSchema>;
export type ExportChangedRequest = z.input<typeof ExportChangedRequestSchema>;
export type RefreshRequest = z.input<typeof RefreshRequestSchema>;
export type PruneRequest = z.input<typeof PruneRequestSchema>;
export type BundlesRequest = z.input<typeof BundlesRequestSchema>;
export type BundleLabelRequest = z.input<typeof BundleLabelRequestSchema>;
export type BundleRollbackRequest = z.input<typeof BundleRollbackRequestSchema>;
export type OpenRequest = z.input<typeof OpenRequestSchema>;
export type CompareRequest = z.input<typeof CompareRequestSchema>;
export type AutoRequest = z.input<typeof AutoRequestSchema>;
export type SweepRequest = z.input<typeof SweepRequestSchema>;
export type PlanRequest = z.input<typeof PlanRequestSchema>;
export type SynthesizeRequest = z.input<typeof SynthesizeRequestSchema>;
export type CheckRequest = z.input<typeof CheckRequestSchema>;
export type OpeRequest = z.input<typeof OpeRequestSchema>;
export type ReplayRequest = z.input<typeof ReplayRequestSchema>;

/**
 * @param name the function that was called, for messages
 * @throws QianmoError of kind `usage` that lists every option that is wrong, missing or unknown.
 */
export function checkedRequest<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  name: string,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = describeIssues(parsed.error.issues, value, schema);
  throw new QianmoError({
    kind: 'usage',
    what: 'options are wrong, missing or unknown',
    where: `${name}()`,
    found: `\n${faults.map((fault) => `    ${fault}`).join('\n')}`,
    cure: 'correct the options named above',
  });
}
