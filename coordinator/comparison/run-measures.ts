/**
 * The measures that a comparison shows, as functions of how often each adgroup counts. For the value
 * each adgroup counts once; for an interval, as often as it was drawn. All runs see the same draws,
 * so differences are paired.
 */

import { at, float64At, numberAt, spanAt, float32At, int32At } from '../../shared/base/arrays.js';
import type { RandomStream } from '../../shared/base/random.js';
import { bootstrapCounts, percentileInterval } from '../scoring/bootstrap.js';
import type { Interval } from '../scoring/evaluation-report.js';
import type { TaskCounts } from '../scoring/held-out-rows.js';
import { entropyOf, isOfValues, predictionOf } from '../scoring/metrics.js';
import { adgroupImpressions, type AdgroupScores } from '../scoring/score-arms.js';
import type { Measure } from './comparison-report.js';

export interface MeasureInfo {
  readonly measure: Measure;
  readonly title: string;
  readonly isBetterWhen: 'lower' | 'higher';
}

/** For values, the first two are squared errors and measures that need classes are not defined. */
export const MEASURES: readonly MeasureInfo[] = [
  { measure: 'logloss', title: 'logloss', isBetterWhen: 'lower' },
  { measure: 'loglossPerAdgroup', title: 'logloss by adgroup', isBetterWhen: 'lower' },
  { measure: 'normalisedEntropy', title: 'NE', isBetterWhen: 'lower' },
  { measure: 'auc', title: 'AUC', isBetterWhen: 'higher' },
  { measure: 'gauc', title: 'GAUC', isBetterWhen: 'higher' },
  { measure: 'calibrationError', title: '|ln pred/act|', isBetterWhen: 'lower' },
];

/** Sums of one run over the query rows of each adgroup, and its rows sorted by logit. */
export interface MeasuredRun {
  readonly scores: AdgroupScores;
  /** `[adgroupCount]` */
  readonly predictedClicks: Float64Array;
  readonly auc: WeightedAuc;
}

export function measuredRun(
  logits: Float32Array,
  rows: TaskCounts,
  scores: AdgroupScores,
): MeasuredRun {
  const prediction = predictionOf(rows);
  const predictedClicks = sumsByAdgroup(
    rows,
    (row) => at(rows.impressions, row) * prediction(at(logits, row)),
  );
  return { scores, predictedClicks, auc: weightedAuc(logits, rows) };
}

function sumsByAdgroup(rows: TaskCounts, valueOf: (row: number) => number): Float64Array {
  const sums = new Float64Array(rows.starts.length - 1);
  for (let adgroup = 0; adgroup < sums.length; adgroup += 1) {
    const [start, end] = spanAt(rows.starts, adgroup);
    for (let row = start; row < end; row += 1) sums[adgroup] = at(sums, adgroup) + valueOf(row);
  }
  return sums;
}

/** `[measure]` in the order of `MEASURES`; NaN where a measure is not defined on what was drawn. */
type Measures = Float64Array;

/**
 * Measures of each run, where each adgroup counts as often as `weights` says.
 *
 * @param withAuc whether to compute AUC. It takes a pass over all rows, so most draws leave it out (NaN).
 */
export function measuresOf(
  runs: readonly MeasuredRun[],
  rows: TaskCounts,
): (weights: ArrayLike<number>, withAuc: boolean) => Measures[] {
  const impressions = adgroupImpressions(rows);
  const clicks = sumsByAdgroup(rows, (row) => at(rows.clicks, row));
  const hasClasses = !isOfValues(rows);
  return (weights, withAuc) => {
    const weighted = (values: Float64Array): number => {
      let sum = 0;
      for (let adgroup = 0; adgroup < values.length; adgroup += 1)
        sum += numberAt(weights, adgroup) * float64At(values, adgroup);
      return sum;
    };
    const shown = weighted(impressions);
    const clicked = weighted(clicks);
    return runs.map(({ scores, predictedClicks, auc }) => {
      const logloss = weighted(scores.losses) / shown;
      let adgroupLoss = 0;
      let adgroups = 0;
      let gaucSum = 0;
      let gaucWeight = 0;
      for (let adgroup = 0; adgroup < impressions.length; adgroup += 1) {
        const weight = numberAt(weights, adgroup);
        const ofAdgroup = float64At(impressions, adgroup);
        adgroupLoss += (weight * float64At(scores.losses, adgroup)) / ofAdgroup;
        adgroups += weight;
        const within = scores.aucs[adgroup] ?? null;
        if (within === null) continue;
        gaucSum += weight * ofAdgroup * within;
        gaucWeight += weight * ofAdgroup;
      }
      return Float64Array.of(
        logloss,
        adgroupLoss / adgroups,
        hasClasses ? logloss / entropyOf(clicked / shown) : NaN,
        hasClasses && withAuc ? auc(weights) : NaN,
        gaucSum / gaucWeight,
        Math.abs(Math.log(weighted(predictedClicks) / clicked)),
      );
    });
  };
}

/** Row visits that the draws of AUC may cost in one slice. They take seconds. */
const AUC_ROW_VISITS_MAX = 1e9;
const AUC_SAMPLES_MIN = 200;

export interface ComparedMeasures {
  /** For each run, an interval of each measure and of its difference from the first run. */
  readonly values: readonly ReadonlyMap<Measure, Interval | null>[];
  readonly differences: readonly ReadonlyMap<Measure, Interval | null>[];
  readonly aucSamples: number;
}

export function bootstrapMeasures(
  runs: readonly MeasuredRun[],
  rows: TaskCounts,
  settings: {
    readonly samples: number;
    readonly confidence: number;
    readonly stream: RandomStream;
  },
): ComparedMeasures {
  const { samples, confidence } = settings;
  const adgroupCount = rows.starts.length - 1;
  const rowVisits = Math.max(1, rows.clicks.length * runs.length);
  const aucSamples = Math.min(
    samples,
    Math.max(AUC_SAMPLES_MIN, Math.floor(AUC_ROW_VISITS_MAX / rowVisits)),
  );
  const measure = measuresOf(runs, rows);
  const onAll = measure(new Float64Array(adgroupCount).fill(1), true);
  const place = (run: number, index: number): number => run * MEASURES.length + index;
  const columns = Array.from({ length: place(runs.length, 0) }, () => new Float64Array(samples));
  const columnOf = (run: number, index: number): Float64Array => at(columns, place(run, index));
  bootstrapCounts(adgroupCount, settings, (weights, sample) => {
    for (const [run, measures] of measure(weights, sample < aucSamples).entries())
      for (const [index, value] of measures.entries()) {
        columnOf(run, index)[sample] = value;
      }
  });
  const intervalOf = (value: number, draws: Float64Array): Interval | null =>
    percentileInterval(value, draws, confidence);
  const byMeasure = (
    of: (index: number) => Interval | null,
  ): ReadonlyMap<Measure, Interval | null> =>
    new Map(MEASURES.map(({ measure: name }, index) => [name, of(index)]));
  return {
    aucSamples,
    values: runs.map((_, run) =>
      byMeasure((index) => intervalOf(at(at(onAll, run), index), columnOf(run, index))),
    ),
    differences: runs.map((_, run) =>
      byMeasure((index) => {
        const first = columnOf(0, index);
        return intervalOf(
          at(at(onAll, run), index) - at(at(onAll, 0), index),
          columnOf(run, index).map((value, sample) => value - at(first, sample)),
        );
      }),
    ),
  };
}

/** Takes how often each adgroup counts and returns the AUC of all rows; NaN with one class only. */
type WeightedAuc = (adgroupWeights: ArrayLike<number>) => number;

/** @param logits `[rowCount]` of `rows`; rows of equal logit are ties and count half */
function weightedAuc(logits: Float32Array, rows: TaskCounts): WeightedAuc {
  const adgroupOfRow = new Int32Array(logits.length);
  for (let adgroup = 0; adgroup + 1 < rows.starts.length; adgroup += 1)
    adgroupOfRow.fill(adgroup, ...spanAt(rows.starts, adgroup));
  const order = Int32Array.from({ length: logits.length }, (_, row) => row).sort(
    (a, b) => float32At(logits, a) - float32At(logits, b),
  );
  // Ascending by logit and adjacent in memory, so that one pass reads each value once.
  const adgroups = order.map((row) => at(adgroupOfRow, row));
  const clicks = Float64Array.from(order, (row) => at(rows.clicks, row));
  const others = Float64Array.from(
    order,
    (row) => at(rows.impressions, row) - at(rows.clicks, row),
  );
  const opensTie = Uint8Array.from(order, (row, place) =>
    place > 0 && logits[row] === logits[int32At(order, place - 1)] ? 0 : 1,
  );
  return (adgroupWeights) => {
    let clicksBelow = 0;
    let othersBelow = 0;
    let tiedClicks = 0;
    let tiedOthers = 0;
    let wins = 0;
    for (let place = 0; place < adgroups.length; place += 1) {
      if (opensTie[place] === 1) {
        wins += tiedClicks * (othersBelow + tiedOthers / 2);
        clicksBelow += tiedClicks;
        othersBelow += tiedOthers;
        tiedClicks = 0;
        tiedOthers = 0;
      }
      const weight = adgroupWeights[adgroups[place] ?? NaN] ?? NaN;
      tiedClicks += weight * (clicks[place] ?? NaN);
      tiedOthers += weight * (others[place] ?? NaN);
    }
    wins += tiedClicks * (othersBelow + tiedOthers / 2);
    return wins / ((clicksBelow + tiedClicks) * (othersBelow + tiedOthers));
  };
}
