/**
 * A comparison of evaluated runs as data. The table, the page and other programs read it. The format
 * is versioned. A value that is not defined on its rows is null, never NaN.
 */

import { z } from 'zod';
import { QianmoError } from '../../shared/base/errors.js';
import { TaskLabelSchema } from '../../shared/tasks/task-label.js';
import {
  CalibrationCurveSchema,
  CellSchema,
  HistogramSchema,
  IntervalSchema,
  MetricsSchema,
} from '../scoring/evaluation-report.js';

/** Raised when a field changes its meaning or is removed. */
export const COMPARISON_FORMAT_VERSION = 1;

const count = z.int().nonnegative();
const difference = IntervalSchema.nullable();

/** Differences of a run from the first run, on the same draws of adgroups. */
const RunDifferencesSchema = z.strictObject({
  logloss: difference,
  loglossPerAdgroup: difference,
  normalisedEntropy: difference,
  auc: difference,
  gauc: difference,
  /** The difference in |ln(predicted / actual clicks)|, the distance from perfect calibration. */
  calibrationError: difference,
});

const ComparedSliceSchema = z.strictObject({
  name: z.string(),
  supportRowCountMin: count,
  /** Null means no upper bound. */
  supportRowCountMax: count.nullable(),
  adgroupCount: count,
  queryRowCount: count,
  impressions: z.number(),
  clicks: z.number(),
  /** Draws behind the intervals of AUC. Each of them costs a pass over the rows. */
  aucBootstrapSamples: count,
  /** In the order of `runs`. */
  runs: z.array(
    z.strictObject({
      metrics: MetricsSchema,
      /** Null for the first run. */
      differences: RunDifferencesSchema.nullable(),
    }),
  ),
});

export const ComparisonReportSchema = z.strictObject({
  formatVersion: z.literal(COMPARISON_FORMAT_VERSION),
  /** The label of the rows; clicks if absent. For values, `logloss` is a squared error. */
  label: TaskLabelSchema.optional(),
  confidence: z.number(),
  bootstrapSamples: count,
  calibrationBins: count,
  /** The others are compared with the first. */
  runs: z
    .array(
      z.strictObject({
        /** `RUN:ARM`, with a number if that is not unique. */
        label: z.string(),
        run: z.string(),
        arm: z.string(),
        /** The cell chosen for the arm on validation adgroups; null if there was no choice. */
        cell: CellSchema.nullable(),
        validationLogloss: z.number().nullable(),
        /** Places of nDCG in its own evaluation. Only labels that are values have it. */
        ndcgAt: z.int().positive().optional(),
        /** Adgroups with other support rows than in the first run, as far as the evaluations tell. */
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
  /** All test adgroups first, then the size buckets that are not empty, ascending. */
  slices: z.array(ComparedSliceSchema).min(1),
  calibrationCurves: z.array(CalibrationCurveSchema),
  /** Logloss per adgroup minus that of the first run, for each run but the first. */
  differenceHistograms: z.array(z.strictObject({ label: z.string(), ...HistogramSchema.shape })),
});

export type RunDifferences = z.infer<typeof RunDifferencesSchema>;
export type Measure = keyof RunDifferences;
export type ComparedSlice = z.infer<typeof ComparedSliceSchema>;
export type ComparisonReport = z.infer<typeof ComparisonReportSchema>;

/** @throws QianmoError of kind `data` if the text is not a comparison of this version. */
export function parseComparison(json: string, where: string): ComparisonReport {
  try {
    return ComparisonReportSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: 'this is not a comparison of runs',
      where,
      expected: `JSON written by qianmo compare, format version ${COMPARISON_FORMAT_VERSION}`,
      cure: 'compare the runs again',
      cause,
    });
  }
}

export function comparisonJson(report: ComparisonReport): string {
  return JSON.stringify(ComparisonReportSchema.parse(report), null, 2);
}
