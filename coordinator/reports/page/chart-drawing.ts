/**
 * Draws the plots of a page as inline SVG, rendered by echarts without a browser. Colours are CSS
 * variables of the page, so that one drawing serves light and dark.
 */

import {
  init,
  type CustomSeriesRenderItemAPI,
  type CustomSeriesRenderItemReturn,
  type EChartsOption,
  type SeriesOption,
} from 'echarts';
import type { Interval } from '../../scoring/evaluation-report.js';

const WIDTH = 880;
const GRID = { left: 70, right: 20, top: 46, bottom: 66 };
export const INK = 'var(--ink-2)';
const RULE = 'var(--rule)';

/** A name of the legend and its colour. */
export interface Drawn {
  readonly name: string;
  readonly colour: string;
}

export interface DrawnIntervals extends Drawn {
  /** One interval for each category; null is left out. */
  readonly intervals: readonly (Interval | null)[];
}

export interface IntervalChart {
  /** The labels below the categories; a line break begins a second line. */
  readonly categories: readonly string[];
  readonly categoryTitle: string;
  readonly valueTitle: string;
  readonly series: readonly DrawnIntervals[];
  readonly withZero?: boolean;
  /** False if names are too long for one line; the page then has a legend of its own. */
  readonly withLegend?: boolean;
}

/** A dot and a whisker for each series in each category, side by side within a category. */
export function intervalChart(chart: IntervalChart): string {
  const { categories, categoryTitle, valueTitle, withZero = false, withLegend = true } = chart;
  const series = chart.series.map(({ name, colour, intervals }, place): SeriesOption => {
    const offset = (place + 0.5) / chart.series.length - 0.5;
    return {
      type: 'custom',
      name,
      color: colour,
      data: intervals.flatMap((interval, index) =>
        interval === null ? [] : [[index, interval.value, interval.low, interval.high]],
      ),
      encode: { x: 0, y: [1, 2, 3] },
      renderItem: (_params, api) => whisker(api, offset, colour),
      ...(place === 0 && withZero ? { markLine: zeroLine('y') } : {}),
    };
  });
  return draw(380, {
    ...legendOf(chart.series, withLegend),
    xAxis: categoryAxis(categoryTitle, categories),
    yAxis: valueAxis(valueTitle, { scale: true }),
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

export function zeroLine(axis: 'x' | 'y'): {
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

/** The legend and the space it takes above the plot. */
export function legendOf(
  drawn: readonly Drawn[],
  isShown: boolean,
): Pick<EChartsOption, 'legend' | 'grid'> {
  if (!isShown) return { grid: { ...GRID, top: 16 } };
  return {
    legend: {
      top: 0,
      left: 0,
      icon: 'circle',
      itemWidth: 10,
      itemHeight: 10,
      itemGap: 26,
      data: drawn.map(({ name, colour }) => ({ name, itemStyle: { color: colour } })),
      textStyle: { color: INK, fontSize: 13 },
    },
    grid: GRID,
  };
}

/** @param labelEvery how many categories share one label */
export function categoryAxis(
  title: string,
  categories: readonly string[],
  labelEvery = 1,
): NonNullable<EChartsOption['xAxis']> {
  return {
    type: 'category',
    name: title,
    nameLocation: 'middle',
    nameGap: 46,
    nameTextStyle: { color: INK, fontSize: 13 },
    data: [...categories],
    axisLabel: { color: INK, fontSize: 12, lineHeight: 16, interval: labelEvery - 1 },
    axisLine: { lineStyle: { color: RULE } },
    axisTick: { show: false },
  };
}

export function valueAxis(
  title: string,
  range: { min?: number; max?: number; scale?: boolean; splitNumber?: number },
): NonNullable<EChartsOption['xAxis'] & EChartsOption['yAxis']> {
  return {
    type: 'value',
    ...range,
    name: title,
    nameLocation: 'middle',
    // Ticks of a narrow range have more digits.
    nameGap: range.scale === true ? 52 : 42,
    nameTextStyle: { color: INK, fontSize: 13 },
    axisLabel: {
      color: INK,
      fontSize: 12,
      formatter: shortNumber,
      // The ends follow the data and would overlap the last round number.
      ...(range.max === undefined ? {} : { showMaxLabel: false, showMinLabel: range.min === 0 }),
    },
    axisLine: { show: true, lineStyle: { color: RULE } },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: RULE } },
  };
}

/** The number of a tick without its last bits: ticks are round, so that nothing else has to be cut. */
function shortNumber(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** @param width in units of the drawing, which a page scales to the room it has */
export function draw(height: number, option: EChartsOption, width = WIDTH): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: 'transparent',
      textStyle: { fontFamily: 'inherit' },
      grid: GRID,
      ...option,
    });
    return (
      chart
        .renderToSVGString()
        .replace(/ xmlns(:xlink)?="[^"]*"/g, '')
        // Hover effects are off, since the drawing is static.
        .replace(/<style >.*?<\/style>/gs, '')
        .replace(/ (class|ecmeta_\w+|pointer-events)="[^"]*"/g, '')
        .replace(/^<svg width="\d+" height="\d+"/, '<svg role="img"')
    );
  } finally {
    chart.dispose();
  }
}
