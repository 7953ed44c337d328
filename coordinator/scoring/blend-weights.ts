/**
 * The blend of arms that validation chooses: one vector of weights for each size bucket, shrunk towards that of all
 * adgroups, which is shrunk towards the single best arm. How strongly is decided by the losses of folds of adgroups that the weights
 * were not fitted to, and if no strength beats the best arm there, the blend is the best arm.
 */

import { at, spanAt, spreadOver } from '../../shared/base/arrays.js';
import type { ArmName } from '../../shared/config/arms.js';
import { blendedOutput, fitBlend, type BlendRows } from './blend-fit.js';
import type { BlendChoice } from './evaluation-report.js';
import type { TaskCounts } from './held-out-rows.js';
import { sumOf } from './metrics.js';
import { adgroupLosses } from './score-arms.js';
import { EVERY_ADGROUP, sizeBucketIndexOf, sizeBuckets } from './size-buckets.js';
import { heldOutLosses, type EntryLosses, type ValidatedEntries } from './validated-losses.js';

/** Strengths of the prior, as shares of all validation impressions. */
const SHRINKAGES = [1, 0.1, 0.01];

/** More rows are fitted to by a part of the adgroups, evenly spread. */
const FITTED_ROWS_MAX = 50_000;

/** Outputs of the arms for the query rows of all entries. */
interface BlendedArms {
  readonly arms: readonly ArmName[];
  /** By arm, `[rowCount]`. */
  readonly outputs: readonly Float32Array[];
  /** The output of the arm that knows the click rate of the training rows only. */
  readonly centre: number;
  /** The rows of entry after entry. */
  readonly rows: TaskCounts;
}

export interface FittedBlend {
  readonly choice: BlendChoice;
  readonly losses: EntryLosses;
  readonly heldOut: EntryLosses;
}

export function chooseBlend(
  blended: BlendedArms,
  entries: ValidatedEntries,
  edges: readonly number[],
): FittedBlend {
  const fitting = fittingOf(blended, entries, edges);
  const strengths = [Infinity, ...SHRINKAGES];
  const heldOut = strengths.map((shrinkage) =>
    heldOutLosses(entries, (isOther) => fitting.lossesOf(fitting.fit(shrinkage, isOther))),
  );
  // The first of equal ones is taken, which shrinks more.
  const best = heldOut.reduce(
    (lowest, losses, index) => (sumOf(losses) < sumOf(at(heldOut, lowest)) ? index : lowest),
    0,
  );
  const shrinkage = at(strengths, best);
  const weights = fitting.fit(shrinkage, () => true);
  const buckets = edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
  return {
    choice: {
      arms: [...blended.arms],
      centre: blended.centre,
      shrinkage: Number.isFinite(shrinkage) ? shrinkage : null,
      buckets: buckets.map((bucket, index) => ({ ...bucket, weights: at(weights, index) })),
    },
    losses: fitting.lossesOf(weights),
    heldOut: at(heldOut, best),
  };
}

/** Weights by bucket and arm. */
type BucketWeights = readonly number[][];

interface Fitting {
  fit(shrinkage: number, isFitted: (entry: number) => boolean): BucketWeights;
  lossesOf(weights: BucketWeights): EntryLosses;
}

function fittingOf(
  { arms, outputs, centre, rows }: BlendedArms,
  entries: ValidatedEntries,
  edges: readonly number[],
): Fitting {
  const deviations = outputs.map((output) => output.map((value) => value - centre));
  const blendRows: BlendRows = { ...rows, deviations, centre };
  const lossesByArm = outputs.map((output) => adgroupLosses(output, rows));
  const bucketOf = entries.supportRowCounts.map((count) => sizeBucketIndexOf(edges, count));
  const bucketCount = edges.length === 0 ? 1 : sizeBuckets(edges).length;
  const impressions = sumOf(entries.impressions);
  const everyEntry = [...entries.supportRowCounts.keys()];
  const sparse = spreadOver(
    everyEntry,
    Math.ceil(
      (everyEntry.length * FITTED_ROWS_MAX) / Math.max(FITTED_ROWS_MAX, rows.clicks.length),
    ),
  );
  const placesOf = (chosen: readonly number[]): Int32Array =>
    Int32Array.from(
      chosen.flatMap((entry) => {
        const [start, end] = spanAt(rows.starts, entry);
        return Array.from({ length: end - start }, (_, row) => start + row);
      }),
    );
  return {
    fit(shrinkage, isFitted) {
      const lossOf = (losses: EntryLosses): number =>
        everyEntry.reduce((sum, entry) => (isFitted(entry) ? sum + at(losses, entry) : sum), 0);
      const best = lossesByArm.reduce(
        (lowest, losses, arm) => (lossOf(losses) < lossOf(at(lossesByArm, lowest)) ? arm : lowest),
        0,
      );
      const single = arms.map((_, arm) => Number(arm === best));
      const buckets = Array.from({ length: bucketCount }, (_, bucket) => bucket);
      if (!Number.isFinite(shrinkage)) return buckets.map(() => single);
      const strength = shrinkage * impressions;
      const fitted = sparse.filter(isFitted);
      const pooled = fitBlend(blendRows, placesOf(fitted), { weights: single, strength });
      return buckets.map((bucket) =>
        fitBlend(blendRows, placesOf(fitted.filter((entry) => bucketOf[entry] === bucket)), {
          ...{ weights: pooled, strength },
        }),
      );
    },
    lossesOf(weights) {
      const output = new Float32Array(rows.clicks.length);
      for (const entry of everyEntry) {
        const [start, end] = spanAt(rows.starts, entry);
        const ofBucket = at(weights, at(bucketOf, entry));
        for (let row = start; row < end; row += 1)
          output[row] = blendedOutput(blendRows, ofBucket, row);
      }
      return adgroupLosses(output, rows);
    },
  };
}

/** The outputs of a blend for rows of other adgroups, `[rowCount]`. */
export function blendedOutputs(
  { arms, centre, buckets }: BlendChoice,
  outputs: ReadonlyMap<ArmName, Float32Array>,
  rows: TaskCounts,
  supportRowCounts: readonly number[],
): Float32Array {
  const deviations = arms.map((arm) => {
    const output = outputs.get(arm);
    if (output === undefined) throw new Error(`the blend needs the arm ${arm}`);
    return output.map((value) => value - centre);
  });
  const blendRows: BlendRows = { ...rows, deviations, centre };
  const blended = new Float32Array(rows.clicks.length);
  for (const [position, count] of supportRowCounts.entries()) {
    const bucket = buckets.find(
      ({ supportRowCountMin: least, supportRowCountMax: most }) =>
        count >= least && (most === null || count <= most),
    );
    const [start, end] = spanAt(rows.starts, position);
    for (let row = start; row < end; row += 1)
      blended[row] = blendedOutput(blendRows, bucket?.weights ?? [], row);
  }
  return blended;
}
