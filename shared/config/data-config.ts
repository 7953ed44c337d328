/** The `data` section of a run: where the logs are, what a task and a label are, how to split. */

import { z } from 'zod';

const name = z.string().min(1);
const positiveInt = z.int().positive();

/** Of a folder or an object store. */
export const AddressSchema = z
  .string()
  .regex(/^(file:\/\/|s3:\/\/)?[^:]+$/, 'expected a path, file://path or s3://bucket/prefix');

/** SQL over the log's columns, evaluated by DuckDB: `rating >= 4`. */
const expression = z.string().min(1);

/** Paths, globs or `s3://` addresses. */
export const LogsSchema = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)], {
  error: 'expected a path or a list of paths',
});

/** Half the squared error of the standardised value: the mean is what is predicted. */
const valueLoss = z.enum(['squared']).default('squared');

const clickLabels = [
  /** A column holding 0 and 1. */
  z.strictObject({ column: name }),
  /** A condition that is true for a click. */
  z.strictObject({ expression }),
  /** Counts of pre-aggregated logs; exact in loss and metrics without expanding rows. */
  z.strictObject({ clicks: name, impressions: name }),
] as const;

export const ClickLabelSchema = z.union(clickLabels, {
  error: 'expected { column }, { expression } or { clicks, impressions }',
});

export const LabelSchema = z.union(
  [
    ...clickLabels,
    /** A column of numbers: ratings, order values. */
    z.strictObject({ value: name, loss: valueLoss }),
    /** SQL that gives a number: `ln(1 + amount)`. */
    z.strictObject({ valueExpression: expression, loss: valueLoss }),
  ],
  {
    error:
      'expected { column }, { expression }, { clicks, impressions }, { value } or { valueExpression }',
  },
);

/** Crowds or stages of life with labels and losses of their own, on one trunk. */
const SegmentsSchema = z
  .strictObject({
    /** Its value, the same in all rows of a task, chooses the label. */
    column: name,
    labels: z
      .array(
        z.strictObject({
          segment: name,
          label: LabelSchema,
          /** A column that multiplies a row's loss, in place of `data.weight`. */
          weight: name.optional(),
        }),
      )
      .min(1),
  })
  .superRefine(({ labels }, context) => {
    for (const [index, { segment }] of labels.entries())
      if (labels.findIndex((other) => other.segment === segment) !== index)
        context.addIssue({
          code: 'custom',
          path: ['labels', index, 'segment'],
          message: `"${segment}" is listed twice`,
        });
  });

/** Ids 0 is "unknown": seen fewer than `countMin` times, or not in the training tasks. */
const CategorySchema = z
  .strictObject({
    name,
    kind: z.literal('category'),
    column: name.optional(),
    /** SQL instead of a column: `hour(to_timestamp(time))`. */
    expression: expression.optional(),
    /** Values seen in fewer training rows than this share id 0. */
    countMin: positiveInt.default(1),
    /** Hash into this many buckets instead of building a dictionary. */
    hashBuckets: z.int().min(2).max(100_000_000).optional(),
  })
  .refine((f) => f.column === undefined || f.expression === undefined, {
    error: 'give a column or an expression, not both',
  });

const BagSchema = z.strictObject({
  name,
  kind: z.literal('bag'),
  column: name.optional(),
  /** Between the members of a bag in a text column; a list column needs none. */
  separator: z.string().min(1).default('|'),
  countMin: positiveInt.default(1),
  hashBuckets: z.int().min(2).max(100_000_000).optional(),
  /** Members beyond this many are dropped. */
  lengthMax: positiveInt.max(256).default(8),
});

const NumberSchema = z
  .strictObject({
    name,
    kind: z.literal('number'),
    column: name.optional(),
    expression: expression.optional(),
    /** `standard`: (x - mean) / deviation over training rows; `log-bucket`: a category of powers of two. */
    scale: z.enum(['standard', 'log-standard', 'log-bucket', 'none']).default('standard'),
    /** Replaces an empty value; without it a row with an empty value is rejected. */
    missing: z.number().optional(),
  })
  .refine((f) => f.column === undefined || f.expression === undefined, {
    error: 'give a column or an expression, not both',
  });

export const FeatureSchema = z.discriminatedUnion('kind', [
  CategorySchema,
  BagSchema,
  NumberSchema,
]);

const share = z.number().min(0).max(1);

/** How the rows of one task are divided into support and query. */
const RowSplitSchema = z.discriminatedUnion('by', [
  /** The earliest rows support, the later ones query. */
  z.strictObject({
    by: z.literal('time'),
    supportShare: share.default(0.5),
    supportRowsMax: positiveInt.default(256),
    queryRowsMax: positiveInt.default(1024),
    supportRowsMin: positiveInt.default(1),
    queryRowsMin: positiveInt.default(1),
  }),
  z.strictObject({
    by: z.literal('hash'),
    supportShare: share.default(0.5),
    supportRowsMax: positiveInt.default(256),
    queryRowsMax: positiveInt.default(1024),
    supportRowsMin: positiveInt.default(1),
    queryRowsMin: positiveInt.default(1),
  }),
]);

/** Which tasks are held out, so that "new adgroup" is really new. */
const TaskSplitSchema = z
  .discriminatedUnion('by', [
    z.strictObject({
      by: z.literal('hash'),
      validationShare: share.default(0.1),
      testShare: share.default(0.2),
    }),
    /** The tasks seen last are test, those before them validation. */
    z.strictObject({
      by: z.literal('first-seen'),
      validationShare: share.default(0.1),
      testShare: share.default(0.2),
    }),
  ])
  .refine((s) => s.validationShare + s.testShare < 1, {
    error: 'validationShare + testShare must leave tasks to train on (be below 1)',
  });

export const DataConfigSchema = z
  .strictObject({
    logs: LogsSchema,
    format: z.enum(['auto', 'csv', 'tsv', 'jsonl', 'parquet']).default('auto'),
    /** The folder (or `s3://` prefix) of the task store. */
    store: AddressSchema,
    /** The columns whose values together name a task. */
    task: z.union([name, z.array(name).min(1)], {
      error: 'expected a column or a list of columns',
    }),
    /** Of every row; or `segments`. */
    label: LabelSchema.optional(),
    segments: SegmentsSchema.optional(),
    /** A column that multiplies a row's loss. */
    weight: name.optional(),
    /** Orders the rows of a task; a number or a timestamp. */
    time: name.optional(),
    /** Rows for which this is false are left out. */
    where: expression.optional(),
    features: z.array(FeatureSchema).min(1),
    rowSplit: RowSplitSchema.prefault({ by: 'hash' }),
    taskSplit: TaskSplitSchema.prefault({ by: 'hash' }),
    /** A CSV or Parquet file of `row, task, role` that fixes every split from outside. */
    splitFile: z.string().min(1).optional(),
    /** True when each task's rows already lie together, ordered by time. */
    grouped: z.boolean().default(false),
    rejectedRowsMax: z.int().nonnegative().default(1000),
    memoryMiBMax: z.int().min(128).default(2048),
  })
  .superRefine((data, context) => {
    const seen = new Set<string>();
    for (const [index, feature] of data.features.entries()) {
      if (seen.has(feature.name))
        context.addIssue({
          code: 'custom',
          path: ['features', index, 'name'],
          message: `"${feature.name}" names two features`,
        });
      seen.add(feature.name);
    }
    if ((data.label === undefined) === (data.segments === undefined))
      context.addIssue({
        code: 'custom',
        path: ['label'],
        message:
          data.label === undefined
            ? 'is missing; expected data.label, or data.segments with a label for each'
            : 'give data.label or data.segments, not both: a segment has a label of its own',
      });
    const byTime = data.rowSplit.by === 'time' || data.taskSplit.by === 'first-seen';
    if (byTime && data.time === undefined && !data.grouped)
      context.addIssue({
        code: 'custom',
        path: ['time'],
        message: 'a split by time needs the column that holds the time',
      });
  });

export type DataConfig = z.infer<typeof DataConfigSchema>;
export type LabelConfig = z.infer<typeof LabelSchema>;
export type FeatureConfig = z.infer<typeof FeatureSchema>;
