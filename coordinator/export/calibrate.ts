/** Fits the calibrations of a bundle on its validation adgroups, for each label and size. */

import { at, spanAt } from '../../shared/base/arrays.js';
import {
  isForSize,
  type BundleCalibration,
  type BundleServing,
} from '../../shared/bundle/bundle-manifest.js';
import { labelsOf, type TaskLabel, type LossKind } from '../../shared/tasks/task-label.js';
import {
  predictLogits,
  dividedStore,
  type AdaptableModel,
  type TaskJobContext,
} from '../evaluation/task-jobs.js';
import { UNADAPTED } from '../evaluation/arms.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import { EVERY_ADGROUP, sizeBuckets, type SizeBucket } from '../scoring/size-buckets.js';
import { servedBlocksOf } from './adapted-shards.js';
import { sigmoid, softplus } from '../../shared/base/logistic.js';

export interface Calibration {
  readonly slope: number;
  readonly offset: number;
}

/** Outputs with their labels, `[rowCount]` each; for values in standardised units. */
interface CalibrationRows {
  readonly outputs: ArrayLike<number>;
  readonly clicks: ArrayLike<number>;
  readonly impressions: ArrayLike<number>;
}

const IDENTITY: Calibration = { slope: 1, offset: 0 };

/** Standard deviations of 0.1 of a slope and 0.2 of an offset around what it is shrunk towards. */
const SLOPE_PRECISION = 100;
const OFFSET_PRECISION = 25;
/** A slope at or below 0 would turn the ranking around. */
const SLOPE_MIN = 0.05;
const ITERATION_COUNT_MAX = 50;
const STEP_SIZE_MIN = 1e-9;

export function fitCalibration(
  rows: CalibrationRows,
  loss: LossKind,
  prior: Calibration,
): Calibration {
  let current = prior;
  let currentLoss = penalisedLoss(rows, loss, prior, current);
  for (let iteration = 0; iteration < ITERATION_COUNT_MAX; iteration += 1) {
    const step = newtonStep(rows, loss, prior, current);
    let next = current;
    // The loss is convex, so that a short enough step along Newton's direction lowers it.
    for (let size = 1; size > STEP_SIZE_MIN; size /= 2) {
      const tried = {
        slope: Math.max(SLOPE_MIN, current.slope - size * step.slope),
        offset: current.offset - size * step.offset,
      };
      const triedLoss = penalisedLoss(rows, loss, prior, tried);
      if (triedLoss >= currentLoss) continue;
      next = tried;
      currentLoss = triedLoss;
      break;
    }
    const moved = Math.abs(next.slope - current.slope) + Math.abs(next.offset - current.offset);
    current = next;
    if (moved < STEP_SIZE_MIN) break;
  }
  return current;
}

function penalisedLoss(
  { outputs, clicks, impressions }: CalibrationRows,
  loss: LossKind,
  prior: Calibration,
  { slope, offset }: Calibration,
): number {
  let sum =
    (SLOPE_PRECISION * (slope - prior.slope) ** 2 +
      OFFSET_PRECISION * (offset - prior.offset) ** 2) /
    2;
  for (let row = 0; row < outputs.length; row += 1) {
    const z = slope * at(outputs, row) + offset;
    const convex = loss === 'binary' ? softplus(z) : (z * z) / 2;
    sum += at(impressions, row) * convex - at(clicks, row) * z;
  }
  return sum;
}

/** Inverse Hessian times gradient; of the offset alone where the slope would leave its bound. */
function newtonStep(
  { outputs, clicks, impressions }: CalibrationRows,
  loss: LossKind,
  prior: Calibration,
  { slope, offset }: Calibration,
): Calibration {
  let [gradientSlope, gradientOffset] = [
    SLOPE_PRECISION * (slope - prior.slope),
    OFFSET_PRECISION * (offset - prior.offset),
  ];
  let [slopeSlope, slopeOffset, offsetOffset] = [SLOPE_PRECISION, 0, OFFSET_PRECISION];
  for (let row = 0; row < outputs.length; row += 1) {
    const output = at(outputs, row);
    const shown = at(impressions, row);
    const z = slope * output + offset;
    const mean = loss === 'binary' ? sigmoid(z) : z;
    const curvature = shown * (loss === 'binary' ? mean * (1 - mean) : 1);
    const residual = shown * mean - at(clicks, row);
    gradientSlope += residual * output;
    gradientOffset += residual;
    slopeSlope += curvature * output * output;
    slopeOffset += curvature * output;
    offsetOffset += curvature;
  }
  const determinant = slopeSlope * offsetOffset - slopeOffset * slopeOffset;
  const slopeStep = (offsetOffset * gradientSlope - slopeOffset * gradientOffset) / determinant;
  if (slope === SLOPE_MIN && slopeStep > 0)
    return { slope: 0, offset: gradientOffset / offsetOffset };
  return {
    slope: slopeStep,
    offset: (slopeSlope * gradientOffset - slopeOffset * gradientSlope) / determinant,
  };
}

/** Rows that an unknown adgroup has. */
const WITHOUT_SUPPORT = { by: 'shots', supportRowsMax: 0 } as const;

/** For each label that of unknown adgroups, then those of known ones by ascending size. */
export async function calibrationsOf(
  context: TaskJobContext,
  model: AdaptableModel,
  serving: readonly BundleServing[],
): Promise<BundleCalibration[]> {
  const { store, config } = context;
  const edges = config.evaluation.sizeBucketEdges;
  const buckets = edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
  const calibrations: BundleCalibration[] = [];
  for (const [labelIndex, label] of labelsOf(store.manifest).entries()) {
    const taskIndices = store.tasks
      .filter((task) => task.split === 'validation' && (task.labelIndex ?? 0) === labelIndex)
      .map(({ taskIndex }) => taskIndex);
    const rows = await readFlatRows(store, taskIndices, 'query');
    const adgroups = { context, model, taskIndices, rows, label };
    const unknown = rowsOf(adgroups, await unknownOutputs(adgroups));
    const known = rowsOf(adgroups, await servedOutputs(adgroups, at(serving, labelIndex)));
    const everyPlace = [...taskIndices.keys()];
    const pooled = fitCalibration(known, label.loss, IDENTITY);
    calibrations.push(
      describeCalibration(adgroups, everyPlace, {
        ...{ label: labelIndex, of: 'unknown', bucket: EVERY_ADGROUP },
        fit: fitCalibration(unknown, label.loss, IDENTITY),
      }),
      ...buckets.map((bucket) => {
        const places = everyPlace.filter((place) =>
          isForSize(bucket, supportRowsOf(adgroups, place)),
        );
        const ofBucket = selectRows(known, rows, places);
        const fit = fitCalibration(ofBucket, label.loss, pooled);
        return describeCalibration(adgroups, places, {
          label: labelIndex,
          of: 'known',
          bucket,
          fit,
        });
      }),
    );
  }
  return calibrations;
}

/** The place among the calibrations of that of an adgroup. */
export function calibrationIndexOf(
  calibrations: readonly BundleCalibration[],
  {
    labelIndex,
    supportRowCount,
  }: { readonly labelIndex: number; readonly supportRowCount: number },
): number {
  const index = calibrations.findIndex(
    (each) => each.of === 'known' && each.label === labelIndex && isForSize(each, supportRowCount),
  );
  if (index < 0) throw new Error(`no calibration of ${supportRowCount} support rows`);
  return index;
}

/** The validation adgroups of one label. */
interface ValidationAdgroups {
  readonly context: TaskJobContext;
  readonly model: AdaptableModel;
  readonly taskIndices: readonly number[];
  readonly rows: FlatRows;
  readonly label: TaskLabel;
}

function supportRowsOf({ context, taskIndices }: ValidationAdgroups, place: number): number {
  return at(context.store.tasks, at(taskIndices, place)).supportRowCount;
}

/** The outputs for adgroups of which nothing is known. */
async function unknownOutputs({
  context,
  model,
  taskIndices,
}: ValidationAdgroups): Promise<Float32Array> {
  const divided = { ...context, ...dividedStore(context.store, taskIndices, WITHOUT_SUPPORT) };
  const { logits } = await predictLogits(divided, {
    ...{ ...model, taskIndices, role: 'query', keep: [0] },
    adaptations: [UNADAPTED],
  });
  return at(logits, 0);
}

/** The outputs under the blocks that each adgroup is served. */
async function servedOutputs(
  adgroups: ValidationAdgroups,
  serving: BundleServing,
): Promise<Float32Array> {
  const { context, model, taskIndices, rows } = adgroups;
  const { logits } = await predictLogits(context, {
    ...{ ...model, taskIndices, role: 'query', keep: [0, 1] },
    adaptations: [UNADAPTED, serving.adaptation],
  });
  const served = Float32Array.from(at(logits, 0));
  for (const place of taskIndices.keys()) {
    if (servedBlocksOf(serving, supportRowsOf(adgroups, place)) === 'unadapted') continue;
    const [start, end] = spanAt(rows.starts, place);
    served.set(at(logits, 1).subarray(start, end), start);
  }
  return served;
}

/** Predictions and labels that are values come in their own unit; a scorer's are standardised. */
function rowsOf({ rows, label }: ValidationAdgroups, outputs: Float32Array): CalibrationRows {
  const { clicks, impressions } = rows;
  if (label.loss === 'binary') return { outputs, clicks, impressions };
  const { mean, deviation } = label;
  return {
    outputs: outputs.map((value) => (value - mean) / deviation),
    clicks: clicks.map((sum, row) => (sum - mean * at(impressions, row)) / deviation),
    impressions,
  };
}

function selectRows(
  { outputs, clicks, impressions }: CalibrationRows,
  { starts }: FlatRows,
  places: readonly number[],
): CalibrationRows {
  const rows = places.flatMap((place) => {
    const [start, end] = spanAt(starts, place);
    return Array.from({ length: end - start }, (_, row) => start + row);
  });
  const of = (values: ArrayLike<number>): Float64Array =>
    Float64Array.from(rows, (row) => at(values, row));
  return { outputs: of(outputs), clicks: of(clicks), impressions: of(impressions) };
}

interface Described {
  readonly label: number;
  readonly of: BundleCalibration['of'];
  readonly bucket: SizeBucket;
  readonly fit: Calibration;
}

function describeCalibration(
  { rows }: ValidationAdgroups,
  places: readonly number[],
  { label, of, bucket, fit }: Described,
): BundleCalibration {
  const impressions = places.map((place) =>
    sumOf(rows.impressions.subarray(...spanAt(rows.starts, place))),
  );
  return {
    ...{ label, of },
    supportRowCountMin: bucket.supportRowCountMin,
    supportRowCountMax: bucket.supportRowCountMax,
    slope: fit.slope,
    offset: fit.offset,
    adgroupCount: places.length,
    impressions: sumOf(impressions),
  };
}
