/** The plots of the evaluation report. */

import { calibrationCurvesChart, histogramsChart } from '../page/curve-charts.js';
import { intervalChart } from '../page/chart-drawing.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import type { EvaluationReport, Interval, Slice } from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';

export function armColour(arm: ArmName): string {
  return `var(--arm-${arm})`;
}

const drawnArm = (arm: ArmName): { name: ArmName; colour: string } => ({
  name: arm,
  colour: armColour(arm),
});

/** Logloss of each arm in each size bucket, with its interval. */
export function bucketLoglossChart(buckets: readonly Slice[], words: LabelWords): string {
  const arms = (buckets[0]?.arms ?? []).map(({ arm }) => arm);
  return bucketChart(
    buckets,
    arms,
    `${words.loss}, ${words.unit} ${words.perRow}`,
    (arm) => arm.metrics.loglossInterval,
  );
}

/** Paired difference from the global arm in each size bucket. */
export function bucketDifferenceChart(buckets: readonly Slice[], words: LabelWords): string {
  const fromGlobal = ({ differences }: Slice['arms'][number]): Interval | null =>
    differences.find((d) => d.reference === 'global')?.perImpression ?? null;
  const arms = (buckets[0]?.arms ?? [])
    .filter((each) => each.arm !== 'oracle' && each.arm !== 'constant' && fromGlobal(each) !== null)
    .map(({ arm }) => arm);
  const title = `${words.loss} minus global, ${words.unit}`;
  return bucketChart(buckets, arms, title, fromGlobal, true);
}

function bucketChart(
  buckets: readonly Slice[],
  arms: readonly ArmName[],
  valueTitle: string,
  intervalOf: (arm: Slice['arms'][number]) => Interval | null,
  withZero = false,
): string {
  return intervalChart({
    categories: buckets.map((b) => `${b.name}\n${b.adgroupCount} adgroups`),
    categoryTitle: 'support rows of the adgroup',
    valueTitle,
    withZero,
    series: arms.map((arm) => ({
      ...drawnArm(arm),
      intervals: buckets.map((bucket) => {
        const found = bucket.arms.find((each) => each.arm === arm);
        return found === undefined ? null : intervalOf(found);
      }),
    })),
  });
}

export function calibrationChart(report: EvaluationReport): string {
  const curves = report.calibrationCurves.filter(({ arm }) => arm !== 'constant');
  return calibrationCurvesChart(
    curves.map(({ arm, bins }) => ({ ...drawnArm(arm), bins, isDashed: arm === 'oracle' })),
    true,
    wordsOf(report).rate,
  );
}

/** Histograms of how much adgroups gain or lose against the reference. */
export function differenceChart(
  histograms: EvaluationReport['differenceHistograms'],
  reference: ArmName,
  words: LabelWords,
): string {
  return histogramsChart(
    histograms
      .filter((h) => h.reference === reference)
      .map((histogram) => ({ ...drawnArm(histogram.arm), ...histogram })),
    `${words.loss} of the adgroup minus ${reference}, ${words.unit} (left of 0: better)`,
  );
}
