/**
 * Computes the numbers of the report from the test rows and the logits of every arm. Pure, given
 * the seed.
 */

import { at, spanAt, requireSameLength, numberAt } from '../../shared/base/arrays.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import { randomStream } from '../../shared/base/random.js';
import {
  bootstrapIntervals,
  type SumStatistic,
  auc,
  calibrationBins,
  calibrationError,
  calibrationRatio,
  isOfValues,
  lossSum,
  normalisedEntropy,
  sumOf,
  type CountedRows,
} from './metrics.js';
import { selectRows, selectTasks, type TaskCounts } from './held-out-rows.js';
import type { ArmResult, CalibrationCurve, Interval, Metrics, Slice } from './evaluation-report.js';
import { EVERY_ADGROUP, sizeBuckets, type SizeBucket } from './size-buckets.js';

export function valueMetricsOf(
  predictions: Float32Array,
  rows: TaskCounts,
  ndcgAt: number,
): NonNullable<Metrics['values']> {
  const weight = sumOf(rows.impressions);
  const meanSquare = lossSum(predictions, rows) / weight;
  const variance = varianceOf(rows);
  return {
    mae: absoluteErrorSum(predictions, rows) / weight,
    rmse: Math.sqrt(meanSquare),
    rSquared: variance > 0 ? 1 - meanSquare / variance : null,
    ndcg: meanNdcg(predictions, rows, ndcgAt),
    ndcgAt,
  };
}

function absoluteErrorSum(predictions: ArrayLike<number>, rows: CountedRows): number {
  requireSameLength(predictions, rows.clicks, rows.impressions);
  let sum = 0;
  for (let row = 0; row < predictions.length; row += 1) {
    const weight = numberAt(rows.impressions, row);
    if (weight > 0)
      sum += Math.abs(weight * numberAt(predictions, row) - numberAt(rows.clicks, row));
  }
  return sum;
}

/** The weighted variance of the values. */
function varianceOf(rows: CountedRows): number {
  const weight = sumOf(rows.impressions);
  const mean = sumOf(rows.clicks) / weight;
  const constant = new Float64Array(rows.clicks.length).fill(mean);
  const variance = lossSum(constant, rows) / weight;
  // Equal values in single precision leave a rounding error.
  return variance > 1e-12 * mean * mean ? variance : 0;
}

function meanNdcg(predictions: Float32Array, rows: TaskCounts, places: number): number | null {
  let sum = 0;
  let count = 0;
  for (let position = 0; position + 1 < rows.starts.length; position += 1) {
    const [start, end] = spanAt(rows.starts, position);
    const values = Float64Array.from(
      { length: end - start },
      (_, row) => at(rows.clicks, start + row) / at(rows.impressions, start + row),
    );
    const ndcg = ndcgOf(predictions.subarray(start, end), values, places);
    if (ndcg === null) continue;
    sum += ndcg;
    count += 1;
  }
  return count > 0 ? sum / count : null;
}

/**
 * Discounted gain 2^value - 1 of the first `places` rows by descending prediction, over that of the best
 * order (Burges et al., ICML 2005). Rows of equal prediction share their places. This is the
 * expectation over their orders, so the order of rows has no influence. Null if no value is above 0 or
 * if a value is below 0.
 */
export function ndcgOf(
  predictions: ArrayLike<number>,
  values: ArrayLike<number>,
  places: number,
): number | null {
  requireSameLength(predictions, values);
  let most = 0;
  for (let row = 0; row < values.length; row += 1) {
    const value = numberAt(values, row);
    if (!(value >= 0)) return null;
    most = Math.max(most, value);
  }
  if (most === 0) return null;
  // Divided by 2^most - 1, since the gain of a large value would be infinite.
  const gains = Float64Array.from(
    { length: values.length },
    (_, row) => (2 ** (numberAt(values, row) - most) - 2 ** -most) / (1 - 2 ** -most),
  );
  const best = discountedGain(gains, gains, places);
  return discountedGain(predictions, gains, places) / best;
}

function discountedGain(scores: ArrayLike<number>, gains: Float64Array, places: number): number {
  const order = Array.from(gains.keys()).sort((a, b) => at(scores, b) - at(scores, a));
  let sum = 0;
  for (let start = 0; start < Math.min(places, order.length);) {
    let end = start;
    let gain = 0;
    const score = at(scores, at(order, start));
    for (; end < order.length && at(scores, at(order, end)) === score; end += 1)
      gain += at(gains, at(order, end));
    let discounts = 0;
    for (let place = start; place < Math.min(places, end); place += 1)
      discounts += 1 / Math.log2(place + 2);
    sum += (gain / (end - start)) * discounts;
    start = end;
  }
  return sum;
}

/** The test rows as every arm sees them. */
export interface ScoredRows {
  readonly rows: TaskCounts;
  readonly supportRowCounts: readonly number[];
  /** The logits of each arm, `[rowCount]`, in the order in which arms are shown. */
  readonly logits: ReadonlyMap<string, Float32Array>;
}

/** Sums of one arm over each adgroup's query rows. */
interface AdgroupScores {
  /** Sum of losses, `[adgroupCount]`. */
  readonly losses: Float64Array;
  /** Null for an adgroup with one class only. */
  readonly aucs: readonly (number | null)[];
}

interface ScoringSettings extends Pick<
  EvaluationConfig,
  'sizeBucketEdges' | 'bootstrapSamples' | 'confidence' | 'calibrationBins' | 'ndcgAt'
> {
  readonly seed: number;
  /** The arms that every other one is compared with. */
  readonly references: readonly string[];
}

/** All test adgroups first, then each size bucket that is not empty. */
export function scoreSlices(scored: ScoredRows, settings: ScoringSettings): Slice[] {
  return [EVERY_ADGROUP, ...sizeBuckets(settings.sizeBucketEdges)].flatMap((bucket) => {
    const slice = scoreSlice(scored, bucket, settings, drawsNameOf(scored, bucket));
    return slice === null ? [] : [slice];
  });
}

/**
 * Positions of the bucket's adgroups. An adgroup without impressions cannot be judged and is left
 * out.
 */
function positionsOf(
  scored: Pick<ScoredRows, 'rows' | 'supportRowCounts'>,
  bucket: SizeBucket,
): number[] {
  const { starts, impressions } = scored.rows;
  const { supportRowCountMin: least, supportRowCountMax: most } = bucket;
  return [...scored.supportRowCounts.keys()].filter((position) => {
    const size = at(scored.supportRowCounts, position);
    const shown = impressions.subarray(...spanAt(starts, position));
    return size >= least && (most === null || size <= most) && sumOf(shown) > 0;
  });
}

/**
 * A bucket that holds every adgroup uses the draws of all adgroups, so that its intervals are
 * theirs.
 */
function drawsNameOf(
  scored: Pick<ScoredRows, 'rows' | 'supportRowCounts'>,
  bucket: SizeBucket,
): string {
  const everyCount = positionsOf(scored, EVERY_ADGROUP).length;
  return positionsOf(scored, bucket).length === everyCount ? EVERY_ADGROUP.name : bucket.name;
}

/**
 * Null if the bucket has no adgroup.
 *
 * @param drawsName the name of the bootstrap's random stream
 */
export function scoreSlice(
  scored: ScoredRows,
  bucket: SizeBucket,
  settings: ScoringSettings,
  drawsName = bucket.name,
): Slice | null {
  const positions = positionsOf(scored, bucket);
  if (positions.length === 0) return null;
  const rows = selectTasks(scored.rows, positions);
  const logits = new Map(
    [...scored.logits].map(([arm, ofArm]) => [arm, selectRows(scored.rows, positions, ofArm)]),
  );
  const adgroups = new Map([...logits].map(([arm, ofArm]) => [arm, scoreAdgroups(ofArm, rows)]));
  const intervals = intervalsOf(adgroups, adgroupImpressions(rows), { ...settings, drawsName });
  const arms = [...logits].map(([arm, ofArm]): ArmResult => {
    const { logloss, loglossPerAdgroup, differences, gapClosed } = intervals(arm);
    const scores = adgroups.get(arm);
    const aucs = scores?.aucs ?? [];
    return {
      arm,
      metrics: metricsOf(ofArm, rows, { aucs, logloss, loglossPerAdgroup }, settings),
      differences,
      gapClosed,
    };
  });
  return {
    ...bucket,
    adgroupCount: positions.length,
    queryRowCount: rows.clicks.length,
    impressions: sumOf(rows.impressions),
    clicks: sumOf(rows.clicks),
    arms,
  };
}

/** Results of an arm that its metrics are put together from. */
interface ScoresByAdgroup {
  readonly aucs: readonly (number | null)[];
  readonly logloss: Interval;
  readonly loglossPerAdgroup: Interval;
}

function metricsOf(
  logits: Float32Array,
  rows: TaskCounts,
  { aucs, logloss, loglossPerAdgroup }: ScoresByAdgroup,
  { calibrationBins: binCount, ndcgAt }: Pick<ScoringSettings, 'calibrationBins' | 'ndcgAt'>,
): Metrics {
  const { gauc, leftOutCount } = isOfValues(rows)
    ? { gauc: null, leftOutCount: 0 }
    : gaucOf(aucs, adgroupImpressions(rows));
  return {
    logloss: logloss.value,
    loglossInterval: logloss,
    loglossPerAdgroup,
    normalisedEntropy: normalisedEntropy(logloss.value, rows),
    auc: auc(logits, rows),
    gauc,
    gaucAdgroupsLeftOutCount: leftOutCount,
    calibration: calibrationRatio(logits, rows),
    ece: calibrationError(calibrationBins(logits, rows, binCount)),
    ...(isOfValues(rows) ? { values: valueMetricsOf(logits, rows, ndcgAt) } : {}),
  };
}

export function adgroupImpressions(rows: TaskCounts): Float64Array {
  return Float64Array.from({ length: rows.starts.length - 1 }, (_, position) =>
    sumOf(rows.impressions.subarray(...spanAt(rows.starts, position))),
  );
}

function scoreAdgroups(logits: Float32Array, rows: TaskCounts): AdgroupScores {
  return {
    losses: adgroupLosses(logits, rows),
    aucs: eachAdgroup(logits, rows, auc),
  };
}

/** The sum of losses of each adgroup, `[adgroupCount]`. */
export function adgroupLosses(logits: Float32Array, rows: TaskCounts): Float64Array {
  return Float64Array.from(eachAdgroup(logits, rows, lossSum));
}

function eachAdgroup<Score>(
  logits: Float32Array,
  rows: TaskCounts,
  scoreOf: (logits: Float32Array, rows: CountedRows) => Score,
): Score[] {
  return Array.from({ length: rows.starts.length - 1 }, (_, position) => {
    const [start, end] = spanAt(rows.starts, position);
    return scoreOf(logits.subarray(start, end), {
      ...(rows.label === undefined ? {} : { label: rows.label }),
      clicks: rows.clicks.subarray(start, end),
      impressions: rows.impressions.subarray(start, end),
    });
  });
}

/** Mean AUC of the adgroups that have one, weighted by impressions (Zhou et al., KDD 2018). */
export function gaucOf(
  aucs: readonly (number | null)[],
  impressions: Float64Array,
): { gauc: number | null; leftOutCount: number } {
  let sum = 0;
  let weight = 0;
  let leftOutCount = 0;
  for (const [position, value] of aucs.entries()) {
    if (value === null) {
      leftOutCount += 1;
      continue;
    }
    const shown = at(impressions, position);
    sum += value * shown;
    weight += shown;
  }
  return { gauc: weight > 0 ? sum / weight : null, leftOutCount };
}

type ArmIntervals = Pick<ArmResult, 'differences' | 'gapClosed'> & {
  readonly logloss: Interval;
  readonly loglossPerAdgroup: Interval;
};

/**
 * The columns of the bootstrap are the impressions, a 1 for each adgroup, and for each arm the sum of
 * losses and the mean loss of the adgroup. Every statistic is a function of the sums of these columns
 * over the drawn adgroups.
 */
function intervalsOf(
  adgroups: ReadonlyMap<string, AdgroupScores>,
  impressions: Float64Array,
  settings: ScoringSettings & { readonly drawsName: string },
): (arm: string) => ArmIntervals {
  const arms = [...adgroups.keys()];
  const columns = [impressions, new Float64Array(impressions.length).fill(1)];
  for (const { losses } of adgroups.values())
    columns.push(
      losses,
      losses.map((loss, position) => loss / at(impressions, position)),
    );
  const perImpression =
    (arm: string): SumStatistic =>
    (sums) =>
      at(sums, 2 + 2 * arms.indexOf(arm)) / at(sums, 0);
  const perAdgroup =
    (arm: string): SumStatistic =>
    (sums) =>
      at(sums, 3 + 2 * arms.indexOf(arm)) / at(sums, 1);
  const minus =
    (a: SumStatistic, b: SumStatistic): SumStatistic =>
    (sums) =>
      a(sums) - b(sums);

  const statistics: SumStatistic[] = [];
  const later = (statistic: SumStatistic): number => statistics.push(statistic) - 1;
  const hasGap = adgroups.has('global') && adgroups.has('oracle');
  const plan = new Map(
    arms.map((arm) => [
      arm,
      {
        logloss: later(perImpression(arm)),
        loglossPerAdgroup: later(perAdgroup(arm)),
        differences: settings.references
          .filter((reference) => reference !== arm && adgroups.has(reference))
          .map((reference) => ({
            reference,
            perImpression: later(minus(perImpression(arm), perImpression(reference))),
            perAdgroup: later(minus(perAdgroup(arm), perAdgroup(reference))),
          })),
        gapClosed: hasGap ? later(gapClosedOf(perImpression, arm)) : null,
      },
    ]),
  );
  const stream = randomStream(settings.seed, 'evaluation bootstrap', settings.drawsName);
  const { bootstrapSamples: samples, confidence } = settings;
  const intervals = bootstrapIntervals(columns, statistics, { samples, confidence, stream });
  const finite = (index: number): Interval => {
    const interval = at(intervals, index);
    if (interval === null) throw new Error('a logloss is not finite');
    return interval;
  };
  return (arm) => {
    const places = plan.get(arm);
    if (places === undefined) throw new Error(`${arm} was not scored`);
    return {
      logloss: finite(places.logloss),
      loglossPerAdgroup: finite(places.loglossPerAdgroup),
      differences: places.differences.map((d) => ({
        reference: d.reference,
        perImpression: finite(d.perImpression),
        perAdgroup: finite(d.perAdgroup),
      })),
      gapClosed: places.gapClosed === null ? null : at(intervals, places.gapClosed),
    };
  };
}

/**
 * If the oracle is not better than global there is no gap. The value is then not finite and is left
 * out.
 */
function gapClosedOf(logloss: (arm: string) => SumStatistic, arm: string): SumStatistic {
  return (sums) => {
    const gap = logloss('global')(sums) - logloss('oracle')(sums);
    return gap > 0 ? (logloss('global')(sums) - logloss(arm)(sums)) / gap : NaN;
  };
}

export function calibrationCurvesOf(
  { rows, logits }: ScoredRows,
  { calibrationBins: binCount }: Pick<ScoringSettings, 'calibrationBins'>,
): CalibrationCurve[] {
  return [...logits].map(([arm, ofArm]) => ({
    arm,
    bins: calibrationBins(ofArm, rows, binCount),
  }));
}
