/**
 * Decides which blocks an adgroup is served: its own adapted ones, or those that all adgroups start
 * from. The decision is made for each size bucket on the validation adgroups, because personalisation
 * may help small adgroups and hurt big ones, or the other way round.
 *
 * The difference is the logloss of the adapted blocks minus that of the unadapted ones, paired by
 * adgroup and per impression. A bucket is served adapted blocks if its difference is below 0, and
 * unadapted ones otherwise. A bucket with fewer than `BUCKET_ADGROUPS_MIN` validation adgroups uses
 * the difference over all of them.
 *
 * A shift alone is served unless it is clearly worse. Its prior shrinks it where there is little evidence, so
 * that it costs little where the model knows an adgroup's level already, and it gains much for the rare
 * adgroup whose level is far from it, of which validation adgroups may have none.
 */

import { at, spanAt } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import { bootstrapIntervals } from '../scoring/bootstrap.js';
import type { BlockChoice } from '../scoring/evaluation-report.js';
import type { TaskCounts } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import { pairedDifference, STANDARD_ERRORS_APART } from '../scoring/validated-losses.js';
import {
  EVERY_ADGROUP,
  sizeBucketIndexOf,
  sizeBuckets,
  type SizeBucket,
} from '../scoring/size-buckets.js';

const BUCKET_ADGROUPS_MIN = 10;

/** The rule in words, as reports have it. */
export function blockChoiceRule(isShiftAlone: boolean): string {
  const bound = isShiftAlone
    ? `no more than ${STANDARD_ERRORS_APART} standard errors above that without a shift`
    : 'below that of the unadapted ones';
  const [blocks, their] = isShiftAlone ? ['the shift', 'its'] : ['adapted blocks', 'their'];
  return (
    `${blocks} where ${their} loss on the validation adgroups of the bucket, paired and per impression, is ${bound}; ` +
    `a bucket of fewer than ${BUCKET_ADGROUPS_MIN} goes by all validation adgroups`
  );
}

/** The validation losses of one adgroup. */
export interface ValidatedAdgroup {
  readonly supportRowCount: number;
  readonly impressions: number;
  /** Sum of losses on its query rows. */
  readonly adaptedLoss: number;
  readonly unadaptedLoss: number;
}

interface BucketRule {
  readonly sizeBucketEdges: readonly number[];
  /** Whether nothing but a shift adapts. */
  readonly isShiftAlone: boolean;
}

interface BlockChoiceSettings extends BucketRule {
  readonly bootstrapSamples: number;
  readonly confidence: number;
  readonly seed: number;
}

/** The blocks that each bucket is served, by the rule alone. */
export function servedByBucket(
  adgroups: readonly ValidatedAdgroup[],
  { sizeBucketEdges: edges, isShiftAlone }: BucketRule,
): BlockChoice['serves'][] {
  return bucketsOf(edges).map((_, bucketIndex) => {
    const ofBucket = adgroupsIn(adgroups, edges, bucketIndex);
    const isOwn = ofBucket.length >= BUCKET_ADGROUPS_MIN && meanDifference(ofBucket) !== null;
    const deciding = isOwn ? ofBucket : adgroups;
    const difference = meanDifference(deciding) ?? 0;
    const isAdapted = isShiftAlone
      ? difference <= STANDARD_ERRORS_APART * standardErrorOf(deciding)
      : difference < 0;
    return isAdapted ? 'adapted' : 'unadapted';
  });
}

function bucketsOf(edges: readonly number[]): SizeBucket[] {
  return edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
}

function adgroupsIn(
  adgroups: readonly ValidatedAdgroup[],
  edges: readonly number[],
  bucketIndex: number,
): ValidatedAdgroup[] {
  return adgroups.filter(
    ({ supportRowCount }) => sizeBucketIndexOf(edges, supportRowCount) === bucketIndex,
  );
}

/** Per impression; null where it is not defined. */
function meanDifference(adgroups: readonly ValidatedAdgroup[]): number | null {
  const impressions = sumOf(adgroups.map((adgroup) => adgroup.impressions));
  const differences = adgroups.map((each) => each.adaptedLoss - each.unadaptedLoss);
  const mean = sumOf(differences) / impressions;
  return Number.isFinite(mean) ? mean : null;
}

/** The standard error of the difference per impression; 0 where a single adgroup says nothing of it. */
function standardErrorOf(adgroups: readonly ValidatedAdgroup[]): number {
  const lossesOf = (loss: 'adaptedLoss' | 'unadaptedLoss'): Float64Array =>
    Float64Array.from(adgroups, (adgroup) => adgroup[loss]);
  const found = pairedDifference(lossesOf('adaptedLoss'), lossesOf('unadaptedLoss'), {
    ...{ adgroupCount: adgroups.length, drawCount: 1, supportRowCounts: [] },
    impressions: Float64Array.from(adgroups, ({ impressions }) => impressions),
  });
  return found?.standardError ?? 0;
}

/** One choice for each size bucket, in order. */
export function chooseBlocks(
  adgroups: readonly ValidatedAdgroup[],
  settings: BlockChoiceSettings,
): BlockChoice[] {
  const { sizeBucketEdges: edges } = settings;
  const served = servedByBucket(adgroups, settings);
  return bucketsOf(edges).map((bucket, bucketIndex): BlockChoice => {
    const ofBucket = adgroupsIn(adgroups, edges, bucketIndex);
    const difference = differenceOf(ofBucket, settings, bucket.name);
    const isOwn = difference !== null && ofBucket.length >= BUCKET_ADGROUPS_MIN;
    return {
      ...bucket,
      adgroupCount: ofBucket.length,
      difference,
      decidedBy: isOwn ? 'bucket' : 'all',
      serves: at(served, bucketIndex),
    };
  });
}

/** Null if there are no impressions. */
function differenceOf(
  adgroups: readonly ValidatedAdgroup[],
  { bootstrapSamples: samples, confidence, seed }: BlockChoiceSettings,
  name: string,
): BlockChoice['difference'] {
  const impressions = Float64Array.from(adgroups, (adgroup) => adgroup.impressions);
  if (!(sumOf(impressions) > 0)) return null;
  const differences = Float64Array.from(
    adgroups,
    ({ adaptedLoss, unadaptedLoss }) => adaptedLoss - unadaptedLoss,
  );
  const stream = randomStream(seed, 'block choice', name);
  const [interval = null] = bootstrapIntervals(
    [impressions, differences],
    [([shown = 0, difference = 0]) => difference / shown],
    { samples, confidence, stream },
  );
  return interval;
}

interface BlockLogits {
  readonly adapted: Float32Array;
  readonly unadapted: Float32Array;
}

/** The logits that are served: for each adgroup, those chosen for the bucket that it is in. */
export function chosenLogits(
  choices: readonly BlockChoice[],
  { adapted, unadapted }: BlockLogits,
  query: TaskCounts,
  supportRowCounts: readonly number[],
): Float32Array {
  const served = Float32Array.from(unadapted);
  for (const [position, count] of supportRowCounts.entries()) {
    const choice = choices.find(
      ({ supportRowCountMin: least, supportRowCountMax: most }) =>
        count >= least && (most === null || count <= most),
    );
    if (choice?.serves !== 'adapted') continue;
    const [start, end] = spanAt(query.starts, position);
    served.set(adapted.subarray(start, end), start);
  }
  return served;
}
