/**
 * The evaluation report as data. The table, the HTML page and other programs read it. The format is
 * versioned. A metric that is not defined on its rows (one class only, no oracle) is null, never NaN.
 */

import { z } from 'zod';
import { ARM_NAMES, GLOBAL_ARMS } from '../../shared/config/arms.js';
import { BlobRefSchema } from '../../shared/storage/blob-store.js';
import { TaskLabelSchema } from '../../shared/tasks/task-label.js';

/** Raised when a field changes its meaning or is removed. */
export const REPORT_FORMAT_VERSION = 1;

const ArmNameSchema = z.enum(ARM_NAMES);

const count = z.int().nonnegative();

export const IntervalSchema = z.strictObject({
  value: z.number(),
  low: z.number(),
  high: z.number(),
});

/** Metrics of values, in their unit. nDCG is the mean over the adgroups that have one. */
const ValueMetricsSchema = z.strictObject({
  mae: z.number(),
  rmse: z.number(),
  rSquared: z.number().nullable(),
  ndcg: z.number().nullable(),
  ndcgAt: z.int().positive(),
});

/** For values, every `logloss` of a report is a squared error, in squares of their unit. */
export const MetricsSchema = z.strictObject({
  /** Mean over impressions, in nats. */
  logloss: z.number(),
  loglossInterval: IntervalSchema,
  /** Mean of the adgroups' own logloss. A small adgroup counts as much as a big one. */
  loglossPerAdgroup: IntervalSchema,
  /** Logloss divided by the entropy of the click rate of these rows (He et al., 2014). */
  normalisedEntropy: z.number().nullable(),
  auc: z.number().nullable(),
  /** Mean AUC of the adgroups that have both classes, weighted by impressions. */
  gauc: z.number().nullable(),
  gaucAdgroupsLeftOutCount: count,
  /** Predicted clicks / actual clicks. */
  calibration: z.number().nullable(),
  /** Expected calibration error over bins of equal impressions. */
  ece: z.number(),
  /** Only labels that are values have it. */
  values: ValueMetricsSchema.optional(),
});

/** Logloss of the arm minus that of the reference. Below 0, the arm is better. */
const DifferenceSchema = z.strictObject({
  reference: z.enum(GLOBAL_ARMS),
  perImpression: IntervalSchema,
  perAdgroup: IntervalSchema,
});

const ArmResultSchema = z.strictObject({
  arm: ArmNameSchema,
  metrics: MetricsSchema,
  differences: z.array(DifferenceSchema),
  /** (logloss of global - of arm) / (logloss of global - of oracle), per impression. */
  gapClosed: IntervalSchema.nullable(),
});

/** All test adgroups, or those of one size bucket. */
const SliceSchema = z.strictObject({
  name: z.string(),
  supportRowCountMin: count,
  /** Null means no upper bound. */
  supportRowCountMax: count.nullable(),
  adgroupCount: count,
  queryRowCount: count,
  impressions: z.number(),
  /** For values, the sum of values times weights. */
  clicks: z.number(),
  arms: z.array(ArmResultSchema),
});

/** The blocks that an arm serves the adgroups of one size bucket, as validation decided. */
const BlockChoiceSchema = z.strictObject({
  name: z.string(),
  supportRowCountMin: count,
  /** Null means no upper bound. */
  supportRowCountMax: count.nullable(),
  /** Validation adgroups of the bucket. */
  adgroupCount: count,
  /**
   * Logloss of the adapted minus that of the unadapted blocks, per impression; null without
   * impressions.
   */
  difference: IntervalSchema.nullable(),
  /** `all` if the bucket has too few validation adgroups of its own. */
  decidedBy: z.enum(['bucket', 'all']),
  serves: z.enum(['adapted', 'unadapted']),
});

export const CellSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('inner-steps'),
    innerRate: z.number(),
    innerSteps: count,
    /** Where only a shift adapts: the factor of its learned prior variances, which the rate stands for. */
    priorFactor: z.number().positive().optional(),
  }),
  /** The normal prior of an adgroup's shift of logits; for values, in units of their deviation. */
  z.strictObject({ kind: z.literal('shift-prior'), mean: z.number(), deviation: z.number() }),
]);

const SelectionSchema = z.strictObject({
  arm: ArmNameSchema,
  cell: CellSchema,
  validationLogloss: z.number(),
  /** The chosen cell is the first or last of an axis, so a wider grid might do better. */
  atGridEdge: z.boolean(),
  /** Null if the cell diverged, so that its logits are not finite. */
  grid: z.array(z.strictObject({ cell: CellSchema, validationLogloss: z.number().nullable() })),
});

/** The weights of the arm blend: its output is z0 + sum_a w_a (z_a - z0). */
const BlendChoiceSchema = z.strictObject({
  arms: z.array(ArmNameSchema).min(2),
  /** The output z0, which knows the click rate of the training rows only. */
  centre: z.number(),
  /** Strength of the pull towards the best arm, as a share of all validation impressions; null is that arm alone. */
  shrinkage: z.number().positive().nullable(),
  buckets: z
    .array(
      z.strictObject({
        name: z.string(),
        supportRowCountMin: count,
        /** Null means no upper bound. */
        supportRowCountMax: count.nullable(),
        /** In the order of `arms`. */
        weights: z.array(z.number().nonnegative()),
      }),
    )
    .min(1),
});

/** The validation losses of every arm; no test adgroup has a part in it. */
const ValidationSummarySchema = z.strictObject({
  /** The adgroups with query rows. */
  adgroupCount: count,
  /** Divisions of each adgroup into support and query rows. */
  drawCount: count,
  /** Settings are chosen without the fold that they are judged on; 1 if there were no others to choose on. */
  foldCount: count,
  /** The arm with the lowest held-out loss, the oracle aside; null if every arm diverged. */
  chosen: ArmNameSchema.nullable(),
  arms: z.array(
    z.strictObject({
      arm: ArmNameSchema,
      /** With the settings of the report; null if it diverged. */
      logloss: z.number().nullable(),
      /** With settings that the other folds chose. */
      heldOutLogloss: z.number().nullable(),
      /** Held-out loss minus that of the chosen arm, paired by adgroup; null for the chosen arm. */
      fromChosen: z
        .strictObject({ value: z.number(), standardError: z.number().nonnegative() })
        .nullable(),
    }),
  ),
});

const ProtocolResultSchema = z.strictObject({
  /**
   * `shots` goes by number of support rows, `phases` by the minibatches of support rows adapted on so
   * far, and `periods` is progressive validation by day.
   */
  kind: z.enum(['shots', 'phases', 'periods']),
  /** The settings chosen under the protocol, if they are not those of the report. */
  chosen: z.array(SelectionSchema).optional(),
  /** In order. Each covers all test adgroups that have query rows there. */
  points: z
    .array(
      z.strictObject({
        name: z.string(),
        /** Support rows of all its adgroups. */
        adaptedOnRowCount: count,
        slice: SliceSchema,
      }),
    )
    .min(1),
  /** Only for `periods`: every row of the test adgroups once, as it was predicted in its period. */
  together: SliceSchema.optional(),
});

/** The bins of one curve, by ascending prediction. */
export const CalibrationCurveSchema = z.array(
  z.strictObject({
    impressions: z.number(),
    meanPrediction: z.number(),
    clickRate: z.number(),
  }),
);

/** Differences in logloss over adgroups. */
export const HistogramSchema = z.strictObject({
  /** One more than `adgroupCounts`. Values outside are counted in the outermost bins. */
  edges: z.array(z.number()),
  adgroupCounts: z.array(count),
  adgroupsBetter: count,
  adgroupsWorse: count,
});

export const EvaluationReportSchema = z.strictObject({
  formatVersion: z.literal(REPORT_FORMAT_VERSION),
  run: z.strictObject({
    run: z.string(),
    seed: count,
    method: z.string(),
    model: z.string(),
    personalBlocks: z.array(z.string()),
    configHash: z.string(),
    storeAddress: z.string(),
    storeDigest: z.string(),
    metaDigest: z.string(),
    globalDigest: z.string().nullable(),
    finishedEpochMs: z.number(),
    durationMs: z.number().nonnegative(),
    backends: z.array(z.string()),
  }),
  counts: z.strictObject({
    trainTasks: count,
    validationTasks: count,
    testTasks: count,
    validationQueryRows: count,
    testSupportRows: count,
    testQueryRows: count,
  }),
  /** The label of the rows; absent if they have clicks and no segments. */
  label: TaskLabelSchema.optional(),
  /** Clicks per impression of all rows of the training tasks, or the mean of their values. */
  trainClickRate: z.number(),
  confidence: z.number(),
  bootstrapSamples: count,
  calibrationBins: count,
  selection: z.strictObject({
    criterion: z.string(),
    /** The same for every arm that has a grid. */
    cellsPerArm: count,
    chosen: z.array(SelectionSchema),
    /** The choices of the arm meta-chosen. */
    blocks: z
      .strictObject({ rule: z.string(), buckets: z.array(BlockChoiceSchema).min(1) })
      .optional(),
    /** The weights of the arm blend. */
    blend: BlendChoiceSchema.optional(),
  }),
  /** Absent without validation adgroups. */
  validation: ValidationSummarySchema.optional(),
  arms: z.array(ArmNameSchema),
  armsLeftOut: z.array(z.strictObject({ arm: ArmNameSchema, reason: z.string() })),
  /** All test adgroups first, then the size buckets that are not empty, ascending. */
  slices: z.array(SliceSchema).min(1),
  /** The protocols that the config asks for. */
  protocols: z.array(ProtocolResultSchema).optional(),
  calibrationCurves: z.array(
    z.strictObject({
      arm: ArmNameSchema,
      bins: CalibrationCurveSchema,
    }),
  ),
  /** Logloss per adgroup minus that of the reference, as a histogram over adgroups. */
  differenceHistograms: z.array(
    z.strictObject({
      arm: ArmNameSchema,
      reference: z.enum(GLOBAL_ARMS),
      ...HistogramSchema.shape,
    }),
  ),
  /** The file of test logits beside the report (`test-logits.ts`); absent if none was kept. */
  testLogits: BlobRefSchema.optional(),
});

export type Interval = z.infer<typeof IntervalSchema>;
export type Metrics = z.infer<typeof MetricsSchema>;
export type Difference = z.infer<typeof DifferenceSchema>;
export type ArmResult = z.infer<typeof ArmResultSchema>;
export type Slice = z.infer<typeof SliceSchema>;
export type BlockChoice = z.infer<typeof BlockChoiceSchema>;
export type ProtocolResult = z.infer<typeof ProtocolResultSchema>;
export type Cell = z.infer<typeof CellSchema>;
export type Selection = z.infer<typeof SelectionSchema>;
export type BlendChoice = z.infer<typeof BlendChoiceSchema>;
export type ValidationSummary = z.infer<typeof ValidationSummarySchema>;
export type EvaluationReport = z.infer<typeof EvaluationReportSchema>;
