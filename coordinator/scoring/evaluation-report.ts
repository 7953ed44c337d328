/**
 * The evaluation report as data. The table, the HTML page and other programs read it. The format is
 * versioned. A metric that is not defined on its rows (one class only, no oracle) is null, never NaN.
 */

import { z } from 'zod';
import { QianmoError } from '../../shared/base/errors.js';
import { ARM_NAMES } from '../../shared/config/arms.js';
import { BlobRefSchema } from '../../shared/storage/blob-store.js';
import { TaskLabelSchema } from '../../shared/tasks/task-label.js';

/** Raised when a field changes its meaning or is removed. */
const REPORT_FORMAT_VERSION = 1;

const ArmNameSchema = z.enum(ARM_NAMES);

const count = z.int().nonnegative();

const IntervalSchema = z.strictObject({
  value: z.number(),
  low: z.number(),
  high: z.number(),
});

/** Metrics of values, in their unit. nDCG is the mean over the adgroups that have one. */
const ValueMetricsSchema = z.strictObject({
  mae: z.number(),
  rmse: z.number(),
  /** 1 - squared error / squared error of the rows' mean; null if all values are equal. */
  rSquared: z.number().nullable(),
  ndcg: z.number().nullable(),
  /** Places of a ranking that count. */
  ndcgAt: z.int().positive(),
});

/** For values, every `logloss` of a report is a squared error, in squares of their unit. */
const MetricsSchema = z.strictObject({
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
  reference: z.string(),
  perImpression: IntervalSchema,
  perAdgroup: IntervalSchema,
});

const ArmResultSchema = z.strictObject({
  /** The arm of an evaluation, or the label of a compared run. */
  arm: z.string(),
  metrics: MetricsSchema,
  differences: z.array(DifferenceSchema),
  /** (logloss of global - of arm) / (logloss of global - of oracle), per impression. */
  gapClosed: IntervalSchema.nullable(),
});

/** All test adgroups, or those of one size bucket. */
export const SliceSchema = z.strictObject({
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
  /** Logloss of the adapted minus that of the unadapted blocks, per impression; null without impressions. */
  difference: z.number().nullable(),
  /** `all` if the bucket has too few validation adgroups of its own. */
  decidedBy: z.enum(['bucket', 'all']),
  serves: z.enum(['adapted', 'unadapted']),
});

const DifferenceOfLossSchema = z.strictObject({
  value: z.number(),
  standardError: z.number().nonnegative(),
});

const CrowdChoiceSchema = z.strictObject({
  /** Validation logloss of adapted adgroups with crowds minus that without, paired by adgroup; null where one diverged. */
  difference: DifferenceOfLossSchema.nullable(),
  serves: z.enum(['crowds', 'none']),
  /** The file of the blocks next to the report. */
  blocks: BlobRefSchema,
});

export const CellSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('inner-steps'),
    innerRate: z.number(),
    innerSteps: count,
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

/** The validation losses of every arm; no test adgroup has a part in it. */
const ValidationSummarySchema = z.strictObject({
  /** The adgroups with query rows. */
  adgroupCount: count,
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
      fromChosen: DifferenceOfLossSchema.nullable(),
    }),
  ),
});

const FeatureImportanceSchema = z.strictObject({
  feature: z.string(),
  /** The loss that an impression gains. */
  increase: z.number(),
  standardError: z.number().nonnegative(),
});

/** Every arm adapts on the first support rows only; the query rows stay the same. */
const ShotPointSchema = z.strictObject({
  supportRowsMax: count,
  /** Support rows of all its adgroups. */
  adaptedOnRowCount: count,
  slice: SliceSchema,
});

/** The bins of one curve, by ascending prediction. */
export const CalibrationCurveSchema = z.strictObject({
  arm: z.string(),
  bins: z.array(
    z.strictObject({
      impressions: z.number(),
      meanPrediction: z.number(),
      clickRate: z.number(),
    }),
  ),
});

const EvaluationReportSchema = z.strictObject({
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
    cellsPerArm: count,
    chosen: z.array(SelectionSchema),
    /** The choices of the arm meta-chosen. */
    blocks: z
      .strictObject({ rule: z.string(), buckets: z.array(BlockChoiceSchema).min(1) })
      .optional(),
    /** Whether meta-chosen, and a bundle, have blocks of crowds; absent without crowds. */
    crowds: CrowdChoiceSchema.optional(),
  }),
  /** Absent without validation adgroups. */
  validation: ValidationSummarySchema.optional(),
  /** What the adapted model loses where the values of a feature are those of another adgroup, the most first. */
  importance: z.array(FeatureImportanceSchema).optional(),
  arms: z.array(ArmNameSchema),
  armsLeftOut: z.array(z.strictObject({ arm: ArmNameSchema, reason: z.string() })),
  /** All test adgroups first, then the size buckets that are not empty, ascending. */
  slices: z.array(SliceSchema).min(1),
  /** The k-shot curve, by ascending number of rows, if the config asks for it. */
  shots: z.array(ShotPointSchema).optional(),
  calibrationCurves: z.array(CalibrationCurveSchema),
  /** The file of test logits beside the report (`test-logits.ts`). */
  testLogits: BlobRefSchema,
});

export type Interval = z.infer<typeof IntervalSchema>;
export type Metrics = z.infer<typeof MetricsSchema>;
export type ArmResult = z.infer<typeof ArmResultSchema>;
export type Slice = z.infer<typeof SliceSchema>;
export type BlockChoice = z.infer<typeof BlockChoiceSchema>;
export type CrowdChoice = z.infer<typeof CrowdChoiceSchema>;
export type FeatureImportance = z.infer<typeof FeatureImportanceSchema>;
export type ShotPoint = z.infer<typeof ShotPointSchema>;
export type CalibrationCurve = z.infer<typeof CalibrationCurveSchema>;
export type Cell = z.infer<typeof CellSchema>;
export type Selection = z.infer<typeof SelectionSchema>;
export type ValidationSummary = z.infer<typeof ValidationSummarySchema>;
export type EvaluationReport = z.infer<typeof EvaluationReportSchema>;

export const REPORT_FILE = 'evaluation.json';
/** Blocks of crowds as fitted on training adgroups, in safetensors layout. */
export const CROWD_BLOCKS_FILE = 'crowd-blocks.safetensors';

/**
 * `report.html`, or `report-SEGMENT.html` for a segment. Characters that are not allowed in keys of
 * objects are written as the hexadecimal digits of their bytes, with an `=` before each byte.
 */
export function fileOfSegment(file: string, segment: string | null): string {
  if (segment === null) return file;
  const name = segment.replace(/[^A-Za-z0-9_.-]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `=${byte.toString(16).padStart(2, '0')}`).join(''),
  );
  return file.replace(/(?=\.[a-z]+$)/, () => `-${name}`);
}

/** The segment whose file of this kind has the key: null for that of a run without segments, undefined for other keys. */
export function segmentOfKey(file: string, key: string): string | null | undefined {
  if (key === file) return null;
  const [start = '', end = ''] = file.split(/(?=\.[a-z]+$)/);
  if (!key.startsWith(`${start}-`) || !key.endsWith(end)) return undefined;
  const name = key.slice(start.length + 1, key.length - end.length);
  const bytes = name.replace(/=([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const segment = Buffer.from(bytes, 'latin1').toString('utf8');
  return fileOfSegment(file, segment) === key ? segment : undefined;
}

export function reportJson(report: EvaluationReport): string {
  return `${JSON.stringify(EvaluationReportSchema.parse(report), null, 2)}\n`;
}

/** The record of the one report, or of those of all segments. */
export function reportsData(reports: readonly EvaluationReport[]): unknown {
  const segments = reports.map((report) => EvaluationReportSchema.parse(report));
  return segments.length === 1 ? segments[0] : { formatVersion: REPORT_FORMAT_VERSION, segments };
}

/** @throws QianmoError of kind `data` if the text is not a report of this version. */
export function parseReport(json: string, where: string): EvaluationReport {
  return parseRecord(EvaluationReportSchema, json, {
    ...{ where, what: 'this is not an evaluation report' },
    cure: 'write it again: qianmo evaluate run.yaml',
  });
}

/** @throws QianmoError of kind `data` if the text is not a record of this shape. */
export function parseRecord<Shape>(
  schema: z.ZodType<Shape>,
  json: string,
  fault: { readonly what: string; readonly where: string; readonly cure: string },
): Shape {
  try {
    return schema.parse(JSON.parse(json));
  } catch (cause) {
    const found = cause instanceof z.ZodError ? `\n${z.prettifyError(cause)}` : 'unreadable JSON';
    throw new QianmoError({ kind: 'data', ...fault, found, cause });
  }
}
