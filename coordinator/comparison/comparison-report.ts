/**
 * A comparison of evaluated runs as data: what the table, the page and other programs read.
 * Versioned; a value that is not defined on its rows is null, never NaN.
 */

import { z } from 'zod';
import { TaskLabelSchema } from '../../shared/tasks/task-label.js';
import { CellSchema, IntervalSchema, MetricsSchema } from '../scoring/evaluation-report.js';

/** Raised when a field changes meaning or goes away. */
export const COMPARISON_FORMAT_VERSION = 1;

const count = z.int().nonnegative();
const difference = IntervalSchema.nullable();

/** Of the run minus the first run, on the same draws of adgroups. */
const RunDifferencesSchema = z.strictObject({
  logloss: difference,
  loglossPerAdgroup: difference,
  normalisedEntropy: difference,
  auc: difference,
  gauc: difference,
  /** Of |ln(predicted / actual clicks)|: how far off, whichever way. */
  calibrationError: difference,
});

const ComparedSliceSchema = z.strictObject({
  name: z.string(),
  supportRowCountMin: count,
  /** Null: no upper bound. */
  supportRowCountMax: count.nullable(),
  adgroupCount: count,
  queryRowCount: count,
  impressions: z.number(),
  clicks: z.number(),
  /** Draws behind the intervals of AUC, which cost a pass over the rows each. */
  aucBootstrapSamples: count,
  /** In the order of `runs`. */
  runs: z.array(
    z.strictObject({
      metrics: MetricsSchema,
      /** Null: the first run. */
      differences: RunDifferencesSchema.nullable(),
    }),
  ),
});

export const ComparisonReportSchema = z.strictObject({
  formatVersion: z.literal(COMPARISON_FORMAT_VERSION),
  /** What the rows are labelled with; absent: clicks. Of values, `logloss` is a squared error. */
  label: TaskLabelSchema.optional(),
  confidence: z.number(),
  bootstrapSamples: count,
  calibrationBins: count,
  /** The first is what the others are compared with. */
  runs: z
    .array(
      z.strictObject({
        /** `RUN:ARM`, numbered where that is not unique. */
        label: z.string(),
        run: z.string(),
        arm: z.string(),
        /** What was chosen for the arm on validation adgroups; null where nothing was. */
        cell: CellSchema.nullable(),
        validationLogloss: z.number().nullable(),
        /** Places of nDCG in its own evaluation; of a label of values only. */
        ndcgAt: z.int().positive().optional(),
        /** Adgroups with another number of support rows than in the first run. */
        otherSupportAdgroupCount: count,
        method: z.string(),
        model: z.string(),
        personalBlocks: z.array(z.string()),
        seed: count,
        address: z.string(),
        configHash: z.string(),
        metaDigest: z.string(),
        storeDigest: z.string(),
      }),
    )
    .min(2),
  /** First all test adgroups, then the size buckets that have any, ascending. */
  slices: z.array(ComparedSliceSchema).min(1),
  calibrationCurves: z.array(
    z.array(
      z.strictObject({
        impressions: z.number(),
        meanPrediction: z.number(),
        clickRate: z.number(),
      }),
    ),
  ),
  /** Of each run but the first: logloss per adgroup minus the first run's. */
  differenceHistograms: z.array(
    z.strictObject({
      label: z.string(),
      edges: z.array(z.number()),
      adgroupCounts: z.array(count),
      adgroupsBetter: count,
      adgroupsWorse: count,
    }),
  ),
});

export type RunDifferences = z.infer<typeof RunDifferencesSchema>;
export type Measure = keyof RunDifferences;
export type ComparedSlice = z.infer<typeof ComparedSliceSchema>;
export type ComparisonReport = z.infer<typeof ComparisonReportSchema>;

export function comparisonJson(report: ComparisonReport): string {
  return JSON.stringify(ComparisonReportSchema.parse(report), null, 2);
}
