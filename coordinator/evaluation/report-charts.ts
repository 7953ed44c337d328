/** The plots of the evaluation report. */

import type { SeriesOption } from 'echarts';
import { draw, INK, intervalChart, legendOf, valueAxis, zeroLine } from './chart-drawing.js';
import type { ArmName, EvaluationReport, Interval, Slice } from './evaluation-report.js';

export function armColour(arm: ArmName): string {
  return `var(--arm-${arm})`;
}

const drawnArm = (arm: ArmName): { name: ArmName; colour: string } => ({
  name: arm,
  colour: armColour(arm),
});

/** Logloss of each arm in each size bucket, with its interval. */
export function bucketLoglossChart(buckets: readonly Slice[]): string {
  const arms = (buckets[0]?.arms ?? []).map(({ arm }) => arm);
  return bucketChart(
    buckets,
    arms,
    'logloss, nats per impression',
    (arm) => arm.metrics.loglossInterval,
  );
}

/** Paired difference from the global arm in each size bucket. */
export function bucketDifferenceChart(buckets: readonly Slice[]): string {
  const fromGlobal = ({ differences }: Slice['arms'][number]): Interval | null =>
    differences.find((d) => d.reference === 'global')?.perImpression ?? null;
  const arms = (buckets[0]?.arms ?? [])
    .filter((each) => each.arm !== 'oracle' && each.arm !== 'constant' && fromGlobal(each) !== null)
    .map(({ arm }) => arm);
  return bucketChart(buckets, arms, 'logloss minus global, nats', fromGlobal, true);
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

/** Click rate against prediction in bins of equal impressions; the diagonal is perfect. */
export function calibrationChart(report: EvaluationReport): string {
  const curves = report.calibrationCurves.filter(({ arm }) => arm !== 'constant');
  const reach =
    1.05 *
    Math.max(...curves.flatMap(({ bins }) => bins.flatMap((b) => [b.meanPrediction, b.clickRate])));
  const series = curves.map(({ arm, bins }): SeriesOption => ({
    type: 'line',
    name: arm,
    data: bins.map((bin) => [bin.meanPrediction, bin.clickRate]),
    symbol: 'circle',
    symbolSize: 6,
    color: armColour(arm),
    lineStyle: { width: 2, color: armColour(arm), type: arm === 'oracle' ? 'dashed' : 'solid' },
  }));
  const diagonal: SeriesOption = {
    type: 'line',
    data: [
      [0, 0],
      [reach, reach],
    ],
    symbol: 'none',
    silent: true,
    lineStyle: { width: 1, type: 'dotted', color: INK },
  };
  return draw(440, {
    legend: legendOf(curves.map(({ arm }) => drawnArm(arm))),
    xAxis: valueAxis('mean prediction of the bin', { min: 0, max: reach }),
    yAxis: valueAxis('click rate of the bin', { min: 0, max: reach }),
    series: [diagonal, ...series],
  });
}

/** How many adgroups gain or lose how much against the reference. */
export function differenceChart(
  histograms: EvaluationReport['differenceHistograms'],
  reference: ArmName,
): string {
  const shown = histograms.filter((h) => h.reference === reference);
  const series = shown.map(({ arm, edges, adgroupCounts }, index): SeriesOption => ({
    type: 'line',
    name: arm,
    step: 'end',
    data: edges.map((edge, bin) => [
      edge,
      adgroupCounts[Math.min(bin, adgroupCounts.length - 1)] ?? 0,
    ]),
    symbol: 'none',
    color: armColour(arm),
    lineStyle: { width: 2, color: armColour(arm) },
    areaStyle: { color: armColour(arm), opacity: 0.08 },
    ...(index === 0 ? { markLine: zeroLine('x') } : {}),
  }));
  return draw(340, {
    legend: legendOf(shown.map(({ arm }) => drawnArm(arm))),
    xAxis: valueAxis(`logloss of the adgroup minus ${reference}, nats (left of 0: better)`, {
      min: shown[0]?.edges[0] ?? -1,
      max: shown[0]?.edges.at(-1) ?? 1,
    }),
    yAxis: valueAxis('adgroups', {}),
    series,
  });
}
