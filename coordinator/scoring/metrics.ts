/**
 * Metrics of predicted logits against counts. Pure, float64. A row of `clicks` c and `impressions` n
 * stands for c positives and n - c negatives of one score, so aggregated logs need no expansion. If the
 * label is a value, c is the value times the weight n, and the value itself is predicted.
 */

import { at, requireSameLength, float64At, int32At, numberAt } from '../../shared/base/arrays.js';
import { sigmoid, softplus } from '../../shared/base/logistic.js';
import { CLICK_LABEL, type TaskLabel } from '../../shared/tasks/task-label.js';
import type { RandomStream } from '../../shared/base/random.js';
import type { CalibrationCurve, Interval } from './evaluation-report.js';

/** Parallel arrays `[rowCount]`. */
export interface CountedRows {
  /** The label of all rows; a click if absent. */
  readonly label?: TaskLabel;
  readonly clicks: ArrayLike<number>;
  readonly impressions: ArrayLike<number>;
}

type CalibrationBin = CalibrationCurve['bins'][number];

export function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index += 1) sum += numberAt(values, index);
  return sum;
}

export function isOfValues({ label = CLICK_LABEL }: Pick<CountedRows, 'label'>): boolean {
  return label.loss === 'squared';
}

/** Turns an output of the model into a click probability or a value. */
export function predictionOf(rows: Pick<CountedRows, 'label'>): (output: number) => number {
  return isOfValues(rows) ? (output) => output : sigmoid;
}

/**
 * Sum over rows of `n softplus(z) - c z`, in nats: the logloss times the impressions. For
 * values, the sum of `n (z - c / n)^2`: the squared error times the weight.
 */
export function lossSum(logits: ArrayLike<number>, rows: CountedRows): number {
  requireSameLength(logits, rows.clicks, rows.impressions);
  if (isOfValues(rows)) return squaredErrorSum(logits, rows);
  let sum = 0;
  for (let row = 0; row < logits.length; row += 1) {
    const z = numberAt(logits, row);
    sum += numberAt(rows.impressions, row) * softplus(z) - numberAt(rows.clicks, row) * z;
  }
  return sum;
}

function squaredErrorSum(values: ArrayLike<number>, rows: CountedRows): number {
  let sum = 0;
  for (let row = 0; row < values.length; row += 1) {
    const weight = numberAt(rows.impressions, row);
    if (weight > 0)
      sum += weight * (numberAt(values, row) - numberAt(rows.clicks, row) / weight) ** 2;
  }
  return sum;
}

/** Entropy of a click rate, in nats; 0 at 0 and 1. */
function entropyOf(clickRate: number): number {
  if (clickRate <= 0 || clickRate >= 1) return 0;
  return -clickRate * Math.log(clickRate) - (1 - clickRate) * Math.log1p(-clickRate);
}

/**
 * Logloss per impression over the entropy of these rows' click rate (He et al., ADKDD 2014). Below
 * 1, the scores know more than the click rate. Null with one class only and for values.
 */
export function normalisedEntropy(loglossPerImpression: number, rows: CountedRows): number | null {
  if (isOfValues(rows)) return null;
  const entropy = entropyOf(sumOf(rows.clicks) / sumOf(rows.impressions));
  return entropy > 0 ? loglossPerImpression / entropy : null;
}

/** Predicted over actual clicks, or sums of values; null if the actual sum is not above 0. */
export function calibrationRatio(logits: ArrayLike<number>, rows: CountedRows): number | null {
  const clicks = sumOf(rows.clicks);
  if (!(clicks > 0)) return null;
  const prediction = predictionOf(rows);
  requireSameLength(logits, rows.impressions);
  let predicted = 0;
  for (let row = 0; row < logits.length; row += 1)
    predicted += numberAt(rows.impressions, row) * prediction(numberAt(logits, row));
  return predicted / clicks;
}

/**
 * The chance that a random click scores above a random non-click, where ties count half. Null with one
 * class only and for values.
 */
export function auc(logits: ArrayLike<number>, rows: CountedRows): number | null {
  if (isOfValues(rows)) return null;
  let clicksBelow = 0;
  let othersBelow = 0;
  let wins = 0;
  for (const { clicks, impressions } of tiedGroups(logits, rows)) {
    const others = impressions - clicks;
    wins += clicks * (othersBelow + others / 2);
    clicksBelow += clicks;
    othersBelow += others;
  }
  return clicksBelow > 0 && othersBelow > 0 ? wins / (clicksBelow * othersBelow) : null;
}

/**
 * At most `binCount` bins of equal impressions by ascending prediction. If a boundary falls among rows
 * of one score, they are divided in proportion, so that the order of rows has no influence.
 */
export function calibrationBins(
  logits: ArrayLike<number>,
  rows: CountedRows,
  binCount: number,
): CalibrationBin[] {
  const binMass = sumOf(rows.impressions) / binCount;
  const prediction = predictionOf(rows);
  const mass = new Float64Array(binCount);
  const predicted = new Float64Array(binCount);
  const clicked = new Float64Array(binCount);
  let massBelow = 0;
  for (const { logit, clicks, impressions } of tiedGroups(logits, rows)) {
    const groupEnd = massBelow + impressions;
    const firstBin = Math.min(binCount - 1, Math.floor(massBelow / binMass));
    for (let bin = firstBin, taken = massBelow; bin < binCount && taken < groupEnd; bin += 1) {
      const until = bin === binCount - 1 ? groupEnd : Math.min(groupEnd, (bin + 1) * binMass);
      const part = until - taken;
      if (part <= 0) continue;
      mass[bin] = float64At(mass, bin) + part;
      predicted[bin] = float64At(predicted, bin) + part * prediction(logit);
      clicked[bin] = float64At(clicked, bin) + (part / impressions) * clicks;
      taken = until;
    }
    massBelow = groupEnd;
  }
  return Array.from(mass, (impressions, bin) => ({
    impressions,
    meanPrediction: at(predicted, bin) / impressions,
    clickRate: at(clicked, bin) / impressions,
  })).filter((bin) => bin.impressions > 0);
}

/** Expected calibration error: mean distance of prediction and click rate over the bins. */
export function calibrationError(bins: readonly CalibrationBin[]): number {
  let distance = 0;
  let mass = 0;
  for (const { impressions, meanPrediction, clickRate } of bins) {
    distance += impressions * Math.abs(meanPrediction - clickRate);
    mass += impressions;
  }
  return distance / mass;
}

interface TiedGroup {
  readonly logit: number;
  readonly clicks: number;
  readonly impressions: number;
}

/** Adds up rows of equal logit, ascending. Groups without impressions are left out. */
function tiedGroups(logits: ArrayLike<number>, rows: CountedRows): TiedGroup[] {
  requireSameLength(logits, rows.clicks, rows.impressions);
  const order = Int32Array.from({ length: logits.length }, (_, row) => row).sort(
    (a, b) => numberAt(logits, a) - numberAt(logits, b),
  );
  const groups: TiedGroup[] = [];
  for (let start = 0; start < order.length;) {
    const logit = numberAt(logits, int32At(order, start));
    let clicks = 0;
    let impressions = 0;
    let end = start;
    for (; end < order.length && logits[int32At(order, end)] === logit; end += 1) {
      clicks += numberAt(rows.clicks, int32At(order, end));
      impressions += numberAt(rows.impressions, int32At(order, end));
    }
    if (impressions > 0) groups.push({ logit, clicks, impressions });
    start = end;
  }
  return groups;
}

interface BootstrapSettings {
  readonly samples: number;
  readonly confidence: number;
  readonly stream: RandomStream;
}

/** A function of the columns' sums over the drawn adgroups, for example a ratio of two. */
export type SumStatistic = (sums: Float64Array) => number;

/**
 * An interval for each statistic. `columns` hold one value per adgroup, `[adgroupCount]` each.
 * A statistic that is not finite on all adgroups has no interval (null).
 */
export function bootstrapIntervals(
  columns: readonly Float64Array[],
  statistics: readonly SumStatistic[],
  settings: BootstrapSettings,
): (Interval | null)[] {
  requireSameLength(...columns);
  const adgroupCount = at(columns, 0).length;
  const width = columns.length;
  // Adgroup-major, so that one draw reads contiguous memory.
  const values = new Float64Array(adgroupCount * width);
  for (const [column, source] of columns.entries())
    for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1)
      values[adgroup * width + column] = float64At(source, adgroup);

  const sums = new Float64Array(width);
  const add = (adgroup: number): void => {
    const start = adgroup * width;
    for (let column = 0; column < width; column += 1)
      sums[column] = (sums[column] ?? NaN) + (values[start + column] ?? NaN);
  };
  for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1) add(adgroup);
  const onAll = statistics.map((statistic) => statistic(sums));

  const drawn = statistics.map(() => new Float64Array(settings.samples));
  for (let sample = 0; sample < settings.samples; sample += 1) {
    sums.fill(0);
    for (let draw = 0; draw < adgroupCount; draw += 1) add(settings.stream.below(adgroupCount));
    for (const [index, statistic] of statistics.entries())
      at(drawn, index)[sample] = statistic(sums);
  }
  return onAll.map((value, index) =>
    percentileInterval(value, at(drawn, index), settings.confidence),
  );
}

/**
 * The interval of a value: the middle `confidence` of its draws. Draws that are not finite are left out.
 * Null if the value or every draw is not finite.
 */
function percentileInterval(
  value: number,
  draws: Float64Array,
  confidence: number,
): Interval | null {
  const sorted = draws.filter(Number.isFinite).sort();
  if (!Number.isFinite(value) || sorted.length === 0) return null;
  const tail = (1 - confidence) / 2;
  return { value, low: quantileOf(sorted, tail), high: quantileOf(sorted, 1 - tail) };
}

/** Linear interpolation between order statistics, of which there must be one. */
function quantileOf(sorted: ArrayLike<number>, share: number): number {
  const place = share * (sorted.length - 1);
  const below = numberAt(sorted, Math.floor(place));
  const above = numberAt(sorted, Math.ceil(place));
  return below + (above - below) * (place - Math.floor(place));
}
