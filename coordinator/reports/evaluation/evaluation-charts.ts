/** The plots of the evaluation report. */

import { calibrationCurvesChart, histogramsChart } from '../page/curve-charts.js';
import { intervalChart } from '../page/chart-drawing.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import type { EvaluationReport, Interval, Slice } from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { counted } from '../../../shared/names/counted.js';

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
  return bucketChart(buckets, {
    arms,
    valueTitle: `${words.loss}, ${words.unit} ${words.perRow}`,
    withZero: false,
    intervalOf: (arm) => arm.metrics.loglossInterval,
  });
}

/** Paired difference from the global arm in each size bucket. */
export function bucketDifferenceChart(buckets: readonly Slice[], words: LabelWords): string {
  const fromGlobal = ({ differences }: Slice['arms'][number]): Interval | null =>
    differences.find((d) => d.reference === 'global')?.perImpression ?? null;
  const arms = (buckets[0]?.arms ?? [])
    .filter((each) => each.arm !== 'oracle' && each.arm !== 'constant' && fromGlobal(each) !== null)
    .map(({ arm }) => arm);
  return bucketChart(buckets, {
    arms,
    valueTitle: `${words.loss} minus global, ${words.unit}`,
    withZero: true,
    intervalOf: fromGlobal,
  });
}

/** The intervals that a chart shows of each bucket. */
interface DrawnIntervals {
  readonly arms: readonly ArmName[];
  readonly valueTitle: string;
  /** Whether a line is drawn at 0. */
  readonly withZero: boolean;
  intervalOf(arm: Slice['arms'][number]): Interval | null;
}

function bucketChart(buckets: readonly Slice[], drawn: DrawnIntervals): string {
  const { arms, valueTitle, withZero } = drawn;
  return intervalChart({
    categories: buckets.map((b) => `${b.name}\n${counted(b.adgroupCount, 'adgroup')}`),
    categoryTitle: 'support rows of the adgroup',
    valueTitle,
    withZero,
    series: arms.map((arm) => ({
      ...drawnArm(arm),
      intervals: buckets.map((bucket) => {
        const found = bucket.arms.find((each) => each.arm === arm);
        return found === undefined ? null : drawn.intervalOf(found);
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
