/** The `data` section of a run: where the logs are, what a task and a label are, how to split. */

import { z } from 'zod';
import { TARGET_ENCODING_INPUTS } from '../tasks/store-manifest.js';

const name = z.string().min(1);

const TargetEncodingsSchema = z
  .strictObject({
    of: z
      .array(
        z.union([name, z.array(name).length(2)], {
          error: 'expected the name of a category, or a list of two of them',
        }),
      )
      .min(1)
      .max(64)
      .describe('Categories, or pairs of them: genre, [genre, hour].'),
    pairsMax: z
      .int()
      .min(1)
      .max(64)
      .optional()
      .describe(
        'Adds so many pairs of the listed categories, at most: those whose values say most beyond both alone, which prepare ' +
          'finds on training rows. None if absent.',
      ),
    smoothing: z
      .number()
      .positive()
      .max(1e6)
      .default(20)
      .describe('Impressions at the overall rate that the evidence of a value is added to.'),
    folds: z
      .int()
      .min(2)
      .max(100)
      .default(5)
      .describe('Parts of the training tasks. Rows of a part read the sums over the others.'),
  })
  .superRefine(({ of, pairsMax }, context) => {
    const singleCount = of.filter((encoded) => membersOf(encoded).length === 1).length;
    if (pairsMax !== undefined && singleCount < 2)
      context.addIssue({
        code: 'custom',
        path: ['pairsMax'],
        message: `needs two single categories in of, at least; found ${singleCount}: list more, or leave this out`,
      });
    const seen = new Set<string>();
    for (const [index, encoded] of of.entries()) {
      const members = membersOf(encoded);
      const key = JSON.stringify([...members].sort());
      if (seen.has(key) || new Set(members).size < members.length)
        context.addIssue({
          code: 'custom',
          path: ['of', index],
          message: 'names a category twice, or a pair that is listed already',
        });
      seen.add(key);
    }
  });

type TargetEncodings = z.infer<typeof TargetEncodingsSchema>;

/** A number feature that a target encoding adds. */
interface TargetEncodingInput {
  readonly name: string;
  readonly encodes: {
    /** One category, or two. */
    readonly of: readonly string[];
    readonly input: (typeof TARGET_ENCODING_INPUTS)[number];
  };
}

/** The number features, in order, that follow those of `data.features`. */
export function targetEncodingInputs(
  encodings: TargetEncodings | undefined,
): TargetEncodingInput[] {
  return (encodings?.of ?? []).flatMap((encoded) => {
    const of = membersOf(encoded);
    return TARGET_ENCODING_INPUTS.map((input) => ({
      name: `target.${of.join('+')}${input === 'count' ? '.count' : ''}`,
      encodes: { of, input },
    }));
  });
}

export function encodedCategories(encodings: TargetEncodings): (readonly string[])[] {
  return encodings.of.map(membersOf);
}

function membersOf(encoded: TargetEncodings['of'][number]): readonly string[] {
  return typeof encoded === 'string' ? [encoded] : encoded;
}

interface EncodableData {
  readonly features: readonly {
    readonly name: string;
    readonly kind: string;
    readonly scale?: string;
  }[];
  readonly label?: unknown;
  readonly targetEncodings?: TargetEncodings | undefined;
}

/** The parts of the section that do not match the rest of the data. */
function targetEncodingMisfits({
  features,
  label,
  targetEncodings,
}: EncodableData): { readonly path: (string | number)[]; readonly message: string }[] {
  if (targetEncodings === undefined) return [];
  const categories = features
    .filter(({ kind, scale }) => kind === 'category' || scale === 'log-bucket')
    .map(({ name: category }) => category);
  const unknown = targetEncodings.of.flatMap((encoded, index) =>
    membersOf(encoded)
      .filter((member) => !categories.includes(member))
      .map((member) => ({
        path: ['targetEncodings', 'of', index],
        message: `there is no category ${member}; expected one of ${categories.join(', ')}`,
      })),
  );
  const names = targetEncodingInputs(targetEncodings).map(({ name: added }) => added);
  const taken = names
    .filter(
      (added, index) =>
        names.indexOf(added) !== index || features.some((feature) => feature.name === added),
    )
    .map((added) => ({
      path: ['targetEncodings'],
      message: `gives an input the name ${added}, which another one has: rename the feature`,
    }));
  const ofSegments =
    label === undefined
      ? [
          {
            path: ['targetEncodings'],
            message: 'needs data.label: segments with labels of their own have no common rate',
          },
        ]
      : [];
  return [...unknown, ...taken, ...ofSegments];
}

const positiveInt = z.int().positive();

/** A folder, or a prefix of an object store. */
export const AddressSchema = z
  .string()
  .regex(/^(file:\/\/|s3:\/\/)?[^:]+$/, 'expected a path, file://path or s3://bucket/prefix');

/** SQL over the log's columns, evaluated by DuckDB: `rating >= 4`. */
const expression = z.string().min(1);

const LogsSchema = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1)], {
    error: 'expected a path or a list of paths',
  })
  .describe('Log files: paths, globs or s3:// addresses.');

const LogFormatSchema = z
  .enum(['auto', 'csv', 'tsv', 'jsonl', 'parquet'])
  .default('auto')
  .describe(
    'Format of the log files; auto takes it from their names. The header of a csv file shows whether commas, semicolons, tabs or bars separate its fields.',
  );

const valueLoss = z
  .enum(['squared'])
  .default('squared')
  .describe('Half the squared error of the standardised value, so the mean is predicted.');

const computed = z.strictObject({ expression: expression.describe('SQL that gives the value.') });
const count = z.union([name, computed], { error: 'expected a column or an expression' });

const clickLabels = [
  z.strictObject({ column: name.describe('A column of 0 and 1.') }),
  z.strictObject({
    expression: expression.describe('A condition in SQL that is true for a click: rating >= 4.'),
  }),
  z.strictObject({
    clicks: count.describe(
      "The column of click counts, for logs of aggregated rows, or SQL that gives them: { expression: \"CAST(replace(clicks, ',', '') AS DOUBLE)\" }.",
    ),
    impressions: count.describe(
      'The column of impression counts, or SQL that gives them. Loss and metrics are those of the expanded rows.',
    ),
  }),
] as const;

const LabelSchema = z.union(
  [
    ...clickLabels,
    z.strictObject({
      value: name.describe('A column of numbers, such as ratings or order values.'),
      loss: valueLoss,
    }),
    z.strictObject({
      valueExpression: expression.describe('SQL that gives a number: ln(1 + amount).'),
      loss: valueLoss,
    }),
  ],
  {
    error:
      'expected { column }, { expression }, { clicks, impressions }, { value } or { valueExpression }',
  },
);

const SegmentsSchema = z
  .strictObject({
    column: name.describe(
      'The column whose value chooses the label. It is the same in all rows of a task.',
    ),
    labels: z
      .array(
        z.strictObject({
          segment: name.describe('The value of the column.'),
          label: LabelSchema.describe('The label of the rows of this segment.'),
          weight: name
            .optional()
            .describe("The column that multiplies a row's loss, in place of data.weight."),
        }),
      )
      .min(1)
      .describe('A label for each segment.'),
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

const featureName = name.describe('The name of the feature.');
const featureColumn = name
  .optional()
  .describe('The column of the log; the one with the name of the feature if absent.');
const featureExpression = expression
  .optional()
  .describe('SQL in place of a column: hour(to_timestamp(time)).');
const countMin = positiveInt
  .default(1)
  .describe('Values in fewer training rows than this share the id 0, "unknown".');
const hashBuckets = z
  .int()
  .min(2)
  .max(100_000_000)
  .optional()
  .describe('Hash values into this many buckets instead of building a dictionary.');

const unseenBuckets = positiveInt
  .max(1_000_000)
  .optional()
  .describe(
    'Values that the dictionary does not hold get ids by hash, in so many buckets, instead of sharing the id 0: what a ' +
      "task's support rows show of one of them then says nothing of the others. All share the embedding of unknown values.",
  );

const ONE_SOURCE = { error: 'give a column or an expression, not both' };

const CategorySchema = z
  .strictObject({
    name: featureName,
    kind: z.literal('category'),
    column: featureColumn,
    expression: featureExpression,
    countMin,
    hashBuckets,
    unseenBuckets,
  })
  .refine((f) => f.column === undefined || f.expression === undefined, ONE_SOURCE)
  .refine((f) => f.hashBuckets === undefined || f.unseenBuckets === undefined, {
    path: ['unseenBuckets'],
    error: 'hashBuckets leaves no value unseen: give one of both',
  });

const BagSchema = z.strictObject({
  name: featureName,
  kind: z.literal('bag'),
  column: featureColumn,
  separator: z
    .string()
    .min(1)
    .default('|')
    .describe('Separates the members of a bag in a column of text. A column of lists needs none.'),
  countMin,
  hashBuckets,
  lengthMax: positiveInt.max(256).default(8).describe('Members beyond this many are dropped.'),
});

const NumberSchema = z
  .strictObject({
    name: featureName,
    kind: z.literal('number'),
    column: featureColumn,
    expression: featureExpression,
    scale: z
      .enum(['standard', 'log-standard', 'log-bucket', 'none'])
      .default('standard')
      .describe(
        'standard: (x - mean) / deviation over training rows; log-standard: the same of sign(x) ln(1 + |x|); ' +
          'log-bucket: a category of powers of two; none: x as it is.',
      ),
    missing: z
      .number()
      .optional()
      .describe('Replaces an empty value. Without it, a row with an empty value is rejected.'),
  })
  .refine((f) => f.column === undefined || f.expression === undefined, ONE_SOURCE);

export const FeatureSchema = z.discriminatedUnion('kind', [
  CategorySchema,
  BagSchema,
  NumberSchema,
]);

const share = z.number().min(0).max(1);

const rowCounts = {
  supportShare: share.default(0.5).describe("The share of a task's rows that are support rows."),
  supportRowsMax: positiveInt.default(256).describe('Support rows of a task, at most.'),
  queryRowsMax: positiveInt.default(1024).describe('Query rows of a task, at most.'),
  supportRowsMin: positiveInt
    .default(1)
    .describe('A task with fewer support rows than this is left out.'),
  queryRowsMin: positiveInt
    .default(1)
    .describe('A task with fewer query rows than this is left out.'),
};

const RowSplitSchema = z
  .discriminatedUnion('by', [
    z.strictObject({ by: z.literal('time'), ...rowCounts }),
    z.strictObject({ by: z.literal('hash'), ...rowCounts }),
  ])
  .describe(
    'How the rows of a task are divided into support and query rows: by time, the earliest rows are ' +
      'support rows; by hash, at random.',
  );

const heldOutShares = {
  validationShare: share.default(0.1).describe('The share of tasks that settings are chosen on.'),
  testShare: share.default(0.2).describe('The share of tasks that results are reported on.'),
  trainUntil: z
    .union([z.number(), z.string().min(1)], { error: 'expected a number or a timestamp' })
    .optional()
    .describe(
      'A time of data.time: later rows train nothing and choose no setting. Training and validation tasks end then, and test ' +
        'tasks are judged on later rows alone. Needs rowSplit: { by: time }.',
    ),
};

const TaskSplitSchema = z
  .discriminatedUnion('by', [
    z.strictObject({ by: z.literal('hash'), ...heldOutShares }),
    z.strictObject({ by: z.literal('first-seen'), ...heldOutShares }),
  ])
  .refine((s) => s.validationShare + s.testShare < 1, {
    error: 'validationShare + testShare must leave tasks to train on (be below 1)',
  })
  .describe(
    'Which tasks are held out: by hash, at random; by first-seen, the tasks seen last are test tasks and ' +
      'those before them validation tasks.',
  );

export const DataConfigSchema = z
  .strictObject({
    logs: LogsSchema,
    format: LogFormatSchema,
    store: AddressSchema.describe('The folder or s3:// prefix of the task store.'),
    task: z
      .union([name, z.array(name).min(1), computed], {
        error: 'expected a column, a list of columns or an expression',
      })
      .describe(
        'The column whose values name the tasks, columns whose values do together, or SQL whose value does: ' +
          '{ expression: lower(trim(name)) }. Requests name an adgroup by that value.',
      ),
    label: LabelSchema.optional().describe('What is predicted. Give label or segments.'),
    segments: SegmentsSchema.optional().describe(
      'Kinds of tasks that have their own labels and losses and share one trunk.',
    ),
    weight: name.optional().describe("The column that multiplies a row's loss."),
    downsampling: z
      .number()
      .gt(0)
      .max(1)
      .optional()
      .describe(
        'The share of impressions without a click that the logs keep, if most were dropped at random: 0.1 counts each of them as ten, ' +
          'so that rates, losses, metrics and served probabilities are those of all impressions.',
      ),
    time: z
      .union([name, computed], {
        error: 'expected a column or an expression',
      })
      .optional()
      .describe(
        'Orders the rows of a task: a column with numbers or timestamps, or SQL that gives them, { expression: "strptime(day, \'%d.%m.%Y\')" }.',
      ),
    where: expression
      .optional()
      .describe('Rows for which this SQL condition is false are left out.'),
    features: z.array(FeatureSchema).min(1).describe('The inputs of the model.'),
    targetEncodings: TargetEncodingsSchema.optional().describe(
      'Number features that say which click rate values of categories had in other tasks; none by default.',
    ),
    rowSplit: RowSplitSchema.prefault({ by: 'hash' }),
    taskSplit: TaskSplitSchema.prefault({ by: 'hash' }),
    splitFile: z
      .string()
      .min(1)
      .optional()
      .describe(
        'A CSV or Parquet file with the columns row (from 0), task and role (train-support, train-query, ' +
          'validation-support, ..., test-query, or train for rows that train the trunk only) that fixes every split. ' +
          'Rows that it does not name are left out.',
      ),
    trunkRows: z
      .enum(['none', 'small-tasks'])
      .optional()
      .describe(
        'Which rows outside of tasks train the shared parameters: small-tasks, the rows of training tasks that are ' +
          'too small to be a task; none, if absent. Rows with the role train in the split file always do.',
      ),
    grouped: z
      .boolean()
      .default(false)
      .describe("Whether each task's rows are adjacent in the logs already, ordered by time."),
    rejectedRowsMax: z
      .int()
      .nonnegative()
      .default(1000)
      .describe(
        'prepare fails if it rejects more rows than this; the rejected rows are listed with a reason.',
      ),
    memoryMiBMax: z
      .int()
      .min(128)
      .default(2048)
      .describe('The memory that prepare may use, in MiB.'),
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
    for (const { path, message } of targetEncodingMisfits(data))
      context.addIssue({ code: 'custom', path, message });
    if ((data.label === undefined) === (data.segments === undefined))
      context.addIssue({
        code: 'custom',
        path: ['label'],
        message:
          data.label === undefined
            ? 'is missing; expected data.label, or data.segments with a label for each'
            : 'give data.label or data.segments, not both: a segment has a label of its own',
      });
    const isOfValues = (label: LabelConfig): boolean =>
      'value' in label || 'valueExpression' in label;
    const labels = data.segments?.labels.map(({ label }) => label) ?? [data.label];
    if (data.downsampling !== undefined && labels.some((label) => label && isOfValues(label)))
      context.addIssue({
        code: 'custom',
        path: ['downsampling'],
        message: 'is about impressions without a click, and a label of values has none',
      });
    const byTime = data.rowSplit.by === 'time' || data.taskSplit.by === 'first-seen';
    if (byTime && data.time === undefined && !data.grouped)
      context.addIssue({
        code: 'custom',
        path: ['time'],
        message: 'a split by time needs the column that holds the time',
      });
    if (data.taskSplit.trainUntil !== undefined)
      for (const { needs, holds } of [
        { needs: 'rowSplit: { by: time }', holds: data.rowSplit.by === 'time' },
        { needs: 'data.time', holds: data.time !== undefined },
        { needs: 'no splitFile, which fixes every split', holds: data.splitFile === undefined },
      ])
        if (!holds)
          context.addIssue({
            code: 'custom',
            path: ['taskSplit', 'trainUntil'],
            message: `needs ${needs}`,
          });
  });

export type DataConfig = z.infer<typeof DataConfigSchema>;
export type LabelConfig = z.infer<typeof LabelSchema>;
export type FeatureConfig = z.infer<typeof FeatureSchema>;

/** A feature of the model: those of `data.features`, then the numbers that target encodings add. */
interface DeclaredFeature {
  readonly name: string;
  readonly kind: FeatureConfig['kind'];
  readonly scale?: string;
}

/** Reasons why the values of a category cannot be crowds. */
export function crowdMisfits(crowd: string | undefined, { features, label }: DataConfig): string[] {
  if (crowd === undefined) return [];
  const categories = features.flatMap((feature) =>
    feature.kind === 'category' &&
    feature.hashBuckets === undefined &&
    feature.unseenBuckets === undefined
      ? [feature.name]
      : [],
  );
  const isOfClicks = label !== undefined && !('value' in label) && !('valueExpression' in label);
  return [
    ...(categories.includes(crowd)
      ? []
      : [
          `is no category with a dictionary of its values; expected one of ${categories.join(', ')}`,
        ]),
    ...(isOfClicks
      ? []
      : [
          'needs clicks as data.label: crowds of values, and of segments with labels of their own, are not fitted yet',
        ]),
  ];
}

export function declaredFeatures({ features, targetEncodings }: DataConfig): DeclaredFeature[] {
  return [
    ...features,
    ...targetEncodingInputs(targetEncodings).map(({ name: added }) => ({
      ...{ name: added, kind: 'number' as const, scale: 'none' },
    })),
  ];
}
