/** The sections `training`, `globalTraining` and `trust` of a run config: how outer steps are taken, and which results are believed. */

import { z } from 'zod';
import { AddressSchema } from './data-config.js';

const positiveInt = z.int().positive();
const OUTER_STEP_COUNT_MAX = 10_000_000;
const LEAF_COUNT_MAX = 65_536;
const outerStepCount = positiveInt.max(OUTER_STEP_COUNT_MAX);
const rate = z.number().positive().max(100);

const OptimizerConfigSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('adam'),
    rate: rate.default(0.001).describe('Learning rate.'),
    firstMomentDecay: z.number().min(0).lt(1).default(0.9).describe("Adam's beta 1."),
    secondMomentDecay: z.number().min(0).lt(1).default(0.999).describe("Adam's beta 2."),
    epsilon: z
      .number()
      .positive()
      .default(1e-8)
      .describe('Added to the root of the second moment.'),
  }),
  z.strictObject({
    kind: z.literal('sgd'),
    rate: rate.default(0.1).describe('Learning rate.'),
    momentum: z.number().min(0).lt(1).default(0).describe('Momentum; 0 is none.'),
  }),
]);

const ScheduleConfigSchema = z
  .strictObject({
    warmupOuterSteps: z
      .int()
      .nonnegative()
      .default(0)
      .describe('The rate rises linearly from 0 over this many outer steps.'),
    decay: z
      .enum(['none', 'linear', 'cosine', 'plateau'])
      .default('none')
      .describe(
        'How the rate falls after the rise: linearly or as half a cosine until the last outer step, or at once where the loss of ' +
          'validation adgroups first stops falling (plateau), at the latest when a quarter of the outer steps is left. There training goes back to ' +
          'the parameters with the lowest loss, and it ends where the loss stops falling for the second time.',
      ),
    finalShare: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('The share of the rate that is left at the end of the decay.'),
  })
  .describe('How the learning rate changes during training.');
export type ScheduleConfig = z.infer<typeof ScheduleConfigSchema>;

/** The plateaus of the validation loss after which a run ends. */
export const plateausMaxOf = ({ decay }: Pick<ScheduleConfig, 'decay'>): number =>
  decay === 'plateau' ? 2 : 1;

const AVERAGED_RUNS_MAX = 16;

const StartFromSchema = z
  .union(
    [
      AddressSchema,
      z.strictObject({
        average: z
          .array(AddressSchema)
          .min(2)
          .max(AVERAGED_RUNS_MAX)
          .describe(
            'Outputs of runs with models of the kinds logistic and deepfm, and with one method without personal blocks. One of them may have the method posterior.',
          ),
      }),
    ],
    { error: 'expected the output of a run, or { average: [outputs of runs] }' },
  )
  .describe(
    'The output of another run on the same task store. Training starts with what that run has ' +
      'learned; variables that it does not have start at their initial values. With average, it starts with the one model ' +
      'whose output is the mean of those of several runs, as `qianmo auto` writes it.',
  );

const EarlyStoppingConfigSchema = z
  .strictObject({
    everyOuterSteps: positiveInt
      .default(100)
      .describe('Validation adgroups are scored after every so many outer steps.'),
    patience: positiveInt
      .max(1_000)
      .default(3)
      .describe('Training ends when so many scores in a row were not better than the best.'),
    tasksMax: positiveInt
      .max(1_000_000)
      .default(1_000)
      .describe('The number of validation adgroups that are scored, spread over all of them.'),
    segment: z
      .string()
      .min(1)
      .optional()
      .describe('The segment whose adgroups are scored, where the store has segments.'),
  })
  .describe(
    'Training ends at the latest after `outerSteps`, and earlier when the loss of the validation adgroups ' +
      'stops falling: the lower one of without inner steps and with those of the method. The checkpoint with the lowest ' +
      'loss is kept, and `evaluate`, `export` and `startFrom` take it. Without this section, they take the last.',
  );
type EarlyStoppingConfig = z.infer<typeof EarlyStoppingConfigSchema>;

const StalenessConfigSchema = z
  .strictObject({
    outerSteps: z
      .int()
      .positive()
      .max(16)
      .default(1)
      .describe(
        'The number of outer steps that are computed ahead: the jobs of outer step t have the parameters ' +
          'after outer step t minus this number.',
      ),
    drainEveryOuterSteps: z
      .int()
      .positive()
      .max(1_000_000)
      .default(100)
      .describe(
        'At each multiple of it, no job leaves before all results have been applied. Only there a ' +
          'checkpoint is written, so outerSteps and checkpointEveryOuterSteps must be multiples of it.',
      ),
  })
  .describe(
    'Workers begin the next outer steps before the results of earlier ones are applied, so that they do not ' +
      'wait for the coordinator. The digest of a run depends on it, and not on timing. Every outer step ' +
      'waits for all results of the one before if absent.',
  );
export type StalenessConfig = z.infer<typeof StalenessConfigSchema>;

/** Beyond this, a tenth of the units would stand for all. */
export const DROPOUT_RATE_MAX = 0.9;

const dropoutRate = z.number().min(0).max(DROPOUT_RATE_MAX);

const DROPOUT_FIELDS = {
  dropout: dropoutRate
    .optional()
    .describe(
      'The share of hidden units that is left out of each row in training, drawn anew in every outer step; the ' +
        'others are scaled up. Nothing is left out in evaluations, in bundles and in serving. None if absent.',
    ),
  inputDropout: dropoutRate
    .optional()
    .describe(
      "The share of the values of fields' embeddings that is left out of what the first hidden layer reads, in the same way; linear terms and " +
        'products of fields keep them. Layers that are stacked on the cross layers of dcn-v2 read these values crossed. None if absent.',
    ),
  idDropout: z
    .union([dropoutRate, z.record(z.string().min(1), dropoutRate)])
    .optional()
    .describe(
      'The share of the ids of categories and bags that training replaces by the id of unknown values, drawn anew in ' +
        'every outer step, so that the row of unknown values learns what a new value is like: one rate for all, ' +
        'or rates by feature. None if absent.',
    ),
};

/** Rates by feature that name no feature with ids. */
export function idDropoutMisfits(
  idDropout: number | Readonly<Record<string, number>> | undefined,
  tableNames: readonly string[],
): { readonly path: readonly string[]; readonly message: string }[] {
  if (typeof idDropout !== 'object') return [];
  return Object.keys(idDropout)
    .filter((name) => !tableNames.includes(name))
    .map((name) => ({
      path: ['idDropout', name],
      message: `expected a category or a bag: one of ${tableNames.join(', ')}`,
    }));
}

const decay = z.number().min(0).max(10_000);

const WEIGHT_DECAY_FIELDS = {
  weightDecay: decay
    .default(0)
    .describe(
      'Pulls trunk and tables towards 0: an outer step takes the share rate * weightDecay of each value (decoupled, as ' +
        'in AdamW), which may not be above 1.',
    ),
  tableWeightDecay: decay
    .optional()
    .describe(
      'The same for rows of tables, in the outer steps that look them up; as weightDecay if absent. Rows of rare values need ' +
        'more of it than the trunk.',
    ),
  ridge: z
    .number()
    .min(0)
    .max(10_000)
    .optional()
    .describe(
      'Adds half of it times the sum of squares of the weights of the trunk to the mean loss (ridge regression); biases and tables ' +
        'have none. The optimizer follows both, so that a linear model ends where their sum is lowest, however it gets there. A pull ' +
        'as strong as n impressions is n divided by the impressions of training.',
    ),
};

/** A value that would be pulled beyond 0. */
export function decayIssues({
  optimizer: { rate },
  ...decays
}: {
  readonly optimizer: { readonly rate: number };
  readonly weightDecay: number;
  readonly tableWeightDecay?: number | undefined;
}): { readonly path: string; readonly message: string }[] {
  const { weightDecay, tableWeightDecay = 0 } = decays;
  return Object.entries({ weightDecay, tableWeightDecay })
    .filter(([, value]) => value * rate > 1)
    .map(([path, value]) => ({
      path,
      message: `takes the share rate * ${path} of each value, which may not be above 1: ${rate} * ${value}`,
    }));
}

export const TrainingConfigSchema = z
  .strictObject({
    outerSteps: z
      .int()
      .nonnegative()
      .max(OUTER_STEP_COUNT_MAX)
      .default(500)
      .describe(
        'The number of outer steps. With startFrom it may be 0: the run is what it starts from.',
      ),
    earlyStopping: EarlyStoppingConfigSchema.optional(),
    tasksPerOuterStep: positiveInt
      .max(1_000_000)
      .default(64)
      .describe('The number of tasks whose gradients make one outer step.'),
    rowsPerOuterStep: positiveInt
      .max(1_000_000)
      .optional()
      .describe(
        'Draws rows in place of tasks: each outer step reads about this many rows of all training tasks, each row once in an epoch. ' +
          'Tasks that adapt are drawn in episodes: about 64 random rows of one task (or three times its support rows, if that is more), of which the first ones, from none to twice its ' +
          'support rows and at most two thirds, are its support rows in that step. With `rowSplit: { by: time }`, its rows are in order of time. Needs taskWeight: examples. The digest of a run depends on it.',
      ),
    leavesPerOuterStepMin: positiveInt
      .max(LEAF_COUNT_MAX)
      .optional()
      .describe(
        'The least number of leaves of an outer step, as far as it has tasks: the micro-batches that are computed at once ' +
          'and whose gradients are summed. As many workers can share an outer step. By default 16, or fewer where an outer step ' +
          'is so small that a leaf would have less than 4,096 padded rows. The digest of a run depends on it.',
      ),
    microBatchRowsMax: positiveInt
      .max(16_777_216)
      .default(16_384)
      .describe(
        'Rows, padding included, that are computed at once: the most that a leaf has. It bounds the memory of a device, ' +
          'and the digest of a run depends on it. A task with more rows is computed alone.',
      ),
    sampling: z
      .enum(['uniform', 'sequential', 'proportional', 'square-root', 'size-buckets'])
      .default('uniform')
      .describe(
        'How often tasks are drawn: uniform, all alike; sequential, over and over in the order of the ' +
          'catalog; proportional and square-root, by their rows; size-buckets, buckets ' +
          'of adgroups by size get equal shares.',
      ),
    taskWeight: z
      .enum(['uniform', 'examples', 'sqrt'])
      .default('uniform')
      .describe(
        'How task gradients are weighted within an outer step: all alike (uniform), by the impressions of ' +
          'their query rows (examples), or by the square root of these (sqrt).',
      ),
    optimizer: OptimizerConfigSchema.prefault({ kind: 'adam' }).describe('The meta-optimizer.'),
    trainable: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe(
        'The variables, blocks and features with a table that learn, and the name of the method for all variables of its own; ' +
          'everything if absent. The rest is frozen.',
      ),
    startFrom: StartFromSchema.optional(),
    biasStart: z
      .enum(['zero', 'click-rate'])
      .optional()
      .describe(
        'The bias at outer step 0: zero (the default), or the logit of the click rate of the training tasks, so that ' +
          'the first outer steps are not spent on it. Not read where startFrom is set.',
      ),
    schedule: ScheduleConfigSchema.prefault({}),
    ...DROPOUT_FIELDS,
    gradientNormMax: z
      .number()
      .positive()
      .default(10)
      .describe('The L2 norm above which the meta-gradient is scaled down.'),
    ...WEIGHT_DECAY_FIELDS,
    staleness: StalenessConfigSchema.optional(),
    poisonTasks: z
      .enum(['stop', 'quarantine'])
      .default('stop')
      .describe(
        'What happens when a task makes its job fail again and again: stop, the run ends and names the ' +
          'task; quarantine, the run goes on without it, and checkpoints record that.',
      ),
    tableDigest: z
      .enum(['whole', 'pieces'])
      .default('whole')
      .describe(
        'What the digest of the meta-parameters is over: all values of the tables (whole), which every ' +
          'checkpoint reads for it, or the digests of their pieces (pieces). The parameters are the same.',
      ),
    queryLossBeforeEveryOuterSteps: z
      .int()
      .nonnegative()
      .max(OUTER_STEP_COUNT_MAX)
      .default(10)
      .describe(
        'The query loss before adaptation is measured in the first outer step and in every n-th, beside the one after ' +
          'it, which every outer step has. It takes another forward pass over the query rows and changes no bit of ' +
          'the parameters. 0: never.',
      ),
    checkpointEveryOuterSteps: positiveInt
      .default(100)
      .describe('The number of outer steps between two checkpoints.'),
    checkpointsKept: positiveInt
      .max(1000)
      .default(3)
      .describe('The number of latest checkpoints that are kept.'),
  })
  .refine(({ outerSteps, startFrom }) => outerSteps > 0 || startFrom !== undefined, {
    path: ['outerSteps'],
    error: 'a run of 0 outer steps learns nothing: name what it starts from in startFrom',
  })
  .superRefine((training, context) => {
    for (const { path, message } of [
      ...stalenessIssues(training),
      ...decayIssues(training),
      ...rowDrawIssues(training),
      ...plateauIssues(training),
    ])
      context.addIssue({ code: 'custom', path: [path], message });
  })
  .describe('Meta-training.');
export type TrainingConfig = z.infer<typeof TrainingConfigSchema>;

/** What a rate that falls at a plateau of the validation loss needs. */
function plateauIssues({
  schedule: { decay, finalShare },
  earlyStopping,
}: {
  readonly schedule: ScheduleConfig;
  readonly earlyStopping?: EarlyStoppingConfig | undefined;
}): { readonly path: string; readonly message: string }[] {
  if (decay !== 'plateau') return [];
  const unscored = 'a plateau is one of the validation loss: set earlyStopping, or another decay';
  const still = 'the rate would be 0 after the first plateau: set a finalShare above 0, as 0.25';
  return [
    ...(earlyStopping === undefined ? [{ path: 'earlyStopping', message: unscored }] : []),
    ...(finalShare === 0 ? [{ path: 'schedule', message: still }] : []),
  ];
}

/** The fields that say how tasks are drawn, where rows are. */
function rowDrawIssues({
  rowsPerOuterStep,
  sampling,
  taskWeight,
}: {
  readonly rowsPerOuterStep?: number | undefined;
  readonly sampling: string;
  readonly taskWeight: string;
}): { readonly path: string; readonly message: string }[] {
  if (rowsPerOuterStep === undefined) return [];
  const message = 'rows are drawn with rowsPerOuterStep, and tasks are not: remove one of both';
  const ofWeight = 'with rowsPerOuterStep, every row weighs the same: write taskWeight: examples';
  return [
    ...(sampling === 'uniform' ? [] : [{ path: 'sampling', message }]),
    ...(taskWeight === 'examples' ? [] : [{ path: 'taskWeight', message: ofWeight }]),
  ];
}

/** The fields that contradict outer steps that overlap. */
function stalenessIssues({
  staleness,
  outerSteps,
  checkpointEveryOuterSteps,
  earlyStopping,
}: {
  readonly staleness?: StalenessConfig | undefined;
  readonly outerSteps: number;
  readonly checkpointEveryOuterSteps: number;
  readonly earlyStopping?: EarlyStoppingConfig | undefined;
}): { readonly path: string; readonly message: string }[] {
  if (staleness === undefined) return [];
  const { drainEveryOuterSteps } = staleness;
  const counts = {
    outerSteps,
    checkpointEveryOuterSteps,
    ...(earlyStopping === undefined
      ? {}
      : { 'earlyStopping.everyOuterSteps': earlyStopping.everyOuterSteps }),
  };
  return Object.entries(counts)
    .filter(([, count]) => count % drainEveryOuterSteps !== 0)
    .map(([path, count]) => ({
      path,
      message: `must be a multiple of staleness.drainEveryOuterSteps: ${count} is none of ${drainEveryOuterSteps}`,
    }));
}

export const GlobalTrainingConfigSchema = z
  .strictObject({
    optimizer: OptimizerConfigSchema.optional().describe('The optimizer of the global arm.'),
    outerSteps: outerStepCount.optional().describe('The number of steps of the global arm.'),
  })
  .describe('Training of the global arm, where it differs from training.');
