/**
 * Draws charts as inline SVG, rendered by echarts without a browser. Colors are CSS variables of the page,
 * so one drawing serves light and dark.
 */

import {
  init,
  type CustomSeriesRenderItemAPI,
  type CustomSeriesRenderItemReturn,
  type EChartsOption,
  type SeriesOption,
} from 'echarts';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { Chart, ChartPoint, Series } from './document.js';

type Axis = Chart['x'];

const INK = 'var(--ink-2)';
const RULE = 'var(--rule)';
/** Width and height. A page scales them to the room it has. */
const SIZES = {
  page: [880, 360],
  half: [560, 300],
  wide: [1_120, 300],
  small: [340, 190],
} as const;
/** Characters that fit next to each other below a chart of 880 units, and between two labels. */
const LABEL_CHARACTERS_MAX = 110;
const GAP_CHARACTERS = 3;

/** Pages that are watched are made every second, mostly with the same charts. */
const drawnCharts = new LruCache<string, string>({ countMax: 64 });

export function drawChart(chart: Chart): string {
  const key = JSON.stringify(chart);
  const known = drawnCharts.get(key);
  if (known !== undefined) return known;
  const drawn = drawnOnce(chart);
  drawnCharts.put(key, drawn);
  return drawn;
}

function drawnOnce(chart: Chart): string {
  const { x, y, series, size = 'page' } = chart;
  const [width, height] = SIZES[size];
  const isSmall = size === 'small';
  const { categories } = x;
  const labels =
    categories === undefined ? null : categoryAxis(x, categories, width / SIZES.page[0]);
  return draw([width, height], {
    grid: isSmall
      ? { left: 44, right: 12, top: 10, bottom: 26 }
      : { left: 70, right: 20, top: 16, bottom: labels === null ? 56 : 66 },
    xAxis: labels ?? valueAxis(x, isSmall),
    yAxis: valueAxis(y, isSmall),
    series: series.flatMap((each, place): SeriesOption[] => {
      const zero = place === 0 ? zeroLines(x, y) : {};
      if (chart.look === 'bars') return [{ ...barOf(each), ...zero }];
      if (chart.look === 'intervals')
        return [{ ...whiskersOf(each, place, series.length), ...zero }];
      const line = { ...lineOf(each), ...zero };
      return chart.look === 'bands' ? [bandOf(each), line] : [line];
    }),
  });
}

function lineOf({ name, color, points, look }: Series): SeriesOption {
  const isFaint = look === 'faint';
  const hasDots = look === 'dots' || look === 'diamond' || isFaint || points.length < 3;
  const shape = look === 'diamond' ? 'diamond' : 'circle';
  const kinds = { dashed: 'dashed', guide: 'dotted' } as const;
  const type = look === 'dashed' || look === 'guide' ? kinds[look] : 'solid';
  return {
    type: 'line',
    name,
    color,
    data: points.map(({ x, y }) => [x, y]),
    symbol: hasDots && look !== 'guide' ? shape : 'none',
    symbolSize: look === 'diamond' ? 12 : isFaint ? 5 : 7,
    ...(look === 'steps' ? { step: 'end', areaStyle: { color, opacity: 0.08 } } : {}),
    lineStyle: {
      width: isFaint || look === 'guide' ? 1 : 2,
      color,
      type,
      opacity: isFaint ? 0.4 : 1,
    },
    itemStyle: { opacity: isFaint ? 0.5 : 1 },
  };
}

function barOf({ name, color, points }: Series): SeriesOption {
  const barCategoryGap = points.length > 40 ? '0%' : '12%';
  return { type: 'bar', name, stack: 'all', barCategoryGap, color, data: points.map(({ y }) => y) };
}

/** Points with an interval, as echarts passes them to what draws them. */
function intervalData(points: readonly ChartPoint[]): number[][] {
  return points.map(({ x, y, low = y, high = y }) => [x, y, low, high]);
}

/** A dot and a whisker for each point, side by side within a category. */
function whiskersOf({ name, color, points }: Series, place: number, count: number): SeriesOption {
  const offset = (place + 0.5) / count - 0.5;
  return {
    type: 'custom',
    name,
    color,
    data: intervalData(points),
    encode: { x: 0, y: [1, 2, 3] },
    renderItem: (_params, api) => whisker(api, offset, color),
  };
}

function whisker(
  api: CustomSeriesRenderItemAPI,
  offset: number,
  color: string,
): CustomSeriesRenderItemReturn {
  const category = api.value(0);
  const size = api.size?.([1, 0]) ?? [0];
  const bandWidth = Array.isArray(size) ? (size[0] ?? 0) : size;
  const [x = 0, y = 0] = api.coord([category, api.value(1)]);
  const [, low = 0] = api.coord([category, api.value(2)]);
  const [, high = 0] = api.coord([category, api.value(3)]);
  const center = x + offset * bandWidth * 0.8;
  return {
    type: 'group',
    children: [
      {
        type: 'line',
        shape: { x1: center, y1: low, x2: center, y2: high },
        style: { stroke: color, lineWidth: 2, opacity: 0.55 },
      },
      { type: 'circle', shape: { cx: center, cy: y, r: 5 }, style: { fill: color } },
    ],
  };
}

/** One polygon, drawn with the first datum. The other data only set the extent of the axis. */
function bandOf({ name, color, points }: Series): SeriesOption {
  const data = intervalData(points);
  const outline = (api: CustomSeriesRenderItemAPI): [number, number][] => {
    const at = (x: number, y: number): [number, number] => {
      const [left = 0, top = 0] = api.coord([x, y]);
      return [left, top];
    };
    const lows = data.map(([x = 0, , low = 0]) => at(x, low));
    const highs = data.map(([x = 0, , , high = 0]) => at(x, high));
    return [...lows, ...highs.reverse()];
  };
  return {
    type: 'custom',
    name,
    color,
    silent: true,
    data,
    encode: { x: 0, y: [2, 3] },
    renderItem: (params, api) =>
      params.dataIndex === 0
        ? { type: 'polygon', shape: { points: outline(api) }, style: { fill: color, opacity: 0.1 } }
        : null,
  };
}

function zeroLines(x: Axis, y: Axis): object {
  const data = [
    ...(x.hasZeroLine === true ? [{ xAxis: 0 }] : []),
    ...(y.hasZeroLine === true ? [{ yAxis: 0 }] : []),
  ];
  if (data.length === 0) return {};
  const lineStyle = { color: INK, type: 'solid', width: 1 };
  return { markLine: { silent: true, symbol: 'none', label: { show: false }, lineStyle, data } };
}

const AXIS_STYLE = {
  nameLocation: 'middle',
  nameTextStyle: { color: INK, fontSize: 13 },
  axisLine: { show: true, lineStyle: { color: RULE } },
  axisTick: { show: false },
} as const;

/** Labels are thinned so that they do not overlap. @param room relative to the width of a page */
function categoryAxis(
  { title }: Axis,
  categories: readonly string[],
  room: number,
): NonNullable<EChartsOption['xAxis']> {
  const lengths = categories.map((name) =>
    Math.max(...name.split('\n').map(({ length }) => length)),
  );
  const characters = (Math.max(0, ...lengths) + GAP_CHARACTERS) * categories.length;
  const interval = Math.ceil(characters / (LABEL_CHARACTERS_MAX * room)) - 1;
  return {
    ...AXIS_STYLE,
    type: 'category',
    name: title,
    nameGap: categories.some((name) => name.includes('\n')) ? 46 : 32,
    data: [...categories],
    axisLabel: { color: INK, fontSize: 12, lineHeight: 16, interval: Math.max(0, interval) },
  };
}

function valueAxis(
  { title, min, max }: Axis,
  isSmall: boolean,
): NonNullable<EChartsOption['xAxis'] & EChartsOption['yAxis']> {
  const bounds = { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) };
  return {
    ...AXIS_STYLE,
    ...{ type: 'value', scale: min === undefined },
    ...bounds,
    ...(isSmall ? { splitNumber: 4 } : {}),
    name: title,
    // Ticks of a narrow range have more digits.
    nameGap: min === undefined ? 52 : 42,
    axisLabel: {
      color: INK,
      fontSize: 12,
      // Ticks are round numbers; only their last bits are cut.
      formatter: (value: number) => String(Number(value.toPrecision(6))),
      // The ends follow the data and would overlap the last round number.
      ...(max === undefined ? {} : { showMaxLabel: false, showMinLabel: min === 0 }),
    },
    splitLine: { lineStyle: { color: RULE } },
  };
}

function draw([width, height]: readonly [number, number], option: EChartsOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: 'transparent',
      textStyle: { fontFamily: 'inherit' },
      ...option,
    });
    return (
      chart
        .renderToSVGString()
        .replace(/ xmlns(:xlink)?="[^"]*"/g, '')
        // Hover effects are off, since the drawing is static.
        .replace(/<style >.*?<\/style>/gs, '')
        .replace(/ (class|ecmeta_\w+|pointer-events)="[^"]*"/g, '')
        .replace(/^<svg width="\d+" height="\d+"/, '<svg')
    );
  } finally {
    chart.dispose();
  }
}
