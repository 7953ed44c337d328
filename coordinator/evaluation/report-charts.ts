/**
 * The plots of the report as inline SVG, rendered by echarts without a browser. Colours are CSS
 * variables of the page, so that one drawing serves light and dark.
 */

import {
  init,
  type CustomSeriesRenderItemAPI,
  type CustomSeriesRenderItemReturn,
  type EChartsOption,
  type SeriesOption,
} from 'echarts';
import type { ArmName, EvaluationReport, Interval, Slice } from './evaluation-report.js';

const WIDTH = 880;
const INK = 'var(--ink-2)';
const RULE = 'var(--rule)';

export function armColour(arm: ArmName): string {
  return `var(--arm-${arm})`;
}

/** Logloss of each arm in each size bucket, with its interval. */
export function bucketLoglossChart(buckets: readonly Slice[]): string {
  return intervalChart(
    buckets,
    'logloss, nats per impression',
    (arm) => arm.metrics.loglossInterval,
  );
}

/** Paired difference from the global arm in each size bucket. */
export function bucketDifferenceChart(buckets: readonly Slice[]): string {
  return intervalChart(
    buckets,
    'logloss minus global, nats',
    ({ differences }) => differences.find((d) => d.reference === 'global')?.perImpression ?? null,
    true,
  );
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
    legend: legendOf(curves.map(({ arm }) => arm)),
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
    legend: legendOf(shown.map(({ arm }) => arm)),
    xAxis: valueAxis(`logloss of the adgroup minus ${reference}, nats (left of 0: better)`, {
      min: shown[0]?.edges[0] ?? -1,
      max: shown[0]?.edges.at(-1) ?? 1,
    }),
    yAxis: valueAxis('adgroups', {}),
    series,
  });
}

/** A dot and a whisker for each arm in each bucket, the arms of a bucket side by side. */
function intervalChart(
  buckets: readonly Slice[],
  title: string,
  intervalOf: (arm: Slice['arms'][number]) => Interval | null,
  withZero = false,
): string {
  const arms = (buckets[0]?.arms ?? []).filter(
    (arm) =>
      intervalOf(arm) !== null && !(withZero && (arm.arm === 'oracle' || arm.arm === 'constant')),
  );
  const series = arms.map(({ arm }, place): SeriesOption => {
    const offset = (place + 0.5) / arms.length - 0.5;
    return {
      type: 'custom',
      name: arm,
      color: armColour(arm),
      data: buckets.flatMap((bucket, index) => {
        const found = bucket.arms.find((each) => each.arm === arm);
        const interval = found === undefined ? null : intervalOf(found);
        return interval === null ? [] : [[index, interval.value, interval.low, interval.high]];
      }),
      encode: { x: 0, y: [1, 2, 3] },
      renderItem: (_params, api) => whisker(api, offset, armColour(arm)),
      ...(place === 0 && withZero ? { markLine: zeroLine('y') } : {}),
    };
  });
  return draw(380, {
    legend: legendOf(arms.map(({ arm }) => arm)),
    xAxis: {
      type: 'category',
      name: 'support rows of the adgroup',
      nameLocation: 'middle',
      nameGap: 46,
      nameTextStyle: { color: INK, fontSize: 13 },
      data: buckets.map((b) => `${b.name}\n${b.adgroupCount} adgroups`),
      axisLabel: { color: INK, fontSize: 12, lineHeight: 16, interval: 0 },
      axisLine: { lineStyle: { color: RULE } },
      axisTick: { show: false },
    },
    yAxis: valueAxis(title, { scale: true }),
    series,
  });
}

function whisker(
  api: CustomSeriesRenderItemAPI,
  offset: number,
  colour: string,
): CustomSeriesRenderItemReturn {
  const category = api.value(0);
  const [bandWidth = 0] = sizeOf(api);
  const [x = 0, y = 0] = api.coord([category, api.value(1)]);
  const [, low = 0] = api.coord([category, api.value(2)]);
  const [, high = 0] = api.coord([category, api.value(3)]);
  const centre = x + offset * bandWidth * 0.8;
  return {
    type: 'group',
    children: [
      {
        type: 'line',
        shape: { x1: centre, y1: low, x2: centre, y2: high },
        style: { stroke: colour, lineWidth: 2, opacity: 0.55 },
      },
      { type: 'circle', shape: { cx: centre, cy: y, r: 5 }, style: { fill: colour } },
    ],
  };
}

/** Width and height of one category in pixels. */
function sizeOf(api: CustomSeriesRenderItemAPI): number[] {
  const size = api.size?.([1, 0]) ?? [0];
  return Array.isArray(size) ? size : [size];
}

function zeroLine(axis: 'x' | 'y'): {
  silent: true;
  symbol: 'none';
  label: { show: false };
  lineStyle: { color: string; type: 'solid'; width: number };
  data: ({ xAxis: number } | { yAxis: number })[];
} {
  return {
    silent: true,
    symbol: 'none',
    label: { show: false },
    lineStyle: { color: INK, type: 'solid', width: 1 },
    data: [axis === 'x' ? { xAxis: 0 } : { yAxis: 0 }],
  };
}

function legendOf(arms: readonly ArmName[]): NonNullable<EChartsOption['legend']> {
  return {
    top: 0,
    left: 0,
    icon: 'circle',
    itemWidth: 10,
    itemHeight: 10,
    itemGap: 26,
    data: arms.map((arm) => ({ name: arm, itemStyle: { color: armColour(arm) } })),
    textStyle: { color: INK, fontSize: 13 },
  };
}

function valueAxis(
  title: string,
  range: { min?: number; max?: number; scale?: boolean },
): NonNullable<EChartsOption['xAxis'] & EChartsOption['yAxis']> {
  return {
    type: 'value',
    ...range,
    name: title,
    nameLocation: 'middle',
    nameGap: 42,
    nameTextStyle: { color: INK, fontSize: 13 },
    axisLabel: {
      color: INK,
      fontSize: 12,
      formatter: shortNumber,
      // The ends follow the data and would stand on the last round number.
      ...(range.max === undefined ? {} : { showMaxLabel: false, showMinLabel: range.min === 0 }),
    },
    axisLine: { show: true, lineStyle: { color: RULE } },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: RULE } },
  };
}

function shortNumber(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function draw(height: number, option: EChartsOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: 'transparent',
      textStyle: { fontFamily: 'inherit' },
      grid: { left: 70, right: 20, top: 46, bottom: 66 },
      ...option,
    });
    return (
      chart
        .renderToSVGString()
        .replace(/ xmlns(:xlink)?="[^"]*"/g, '')
        // What a pointer would change: this drawing is still.
        .replace(/<style >.*?<\/style>/gs, '')
        .replace(/ (class|ecmeta_\w+|pointer-events)="[^"]*"/g, '')
        .replace(/^<svg width="\d+" height="\d+"/, '<svg role="img"')
    );
  } finally {
    chart.dispose();
  }
}
