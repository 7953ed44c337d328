/** Charts of the course of a run, small enough to stand side by side: lines, and bars in layers. */

import type { SeriesOption } from 'echarts';
import { draw, INK, legendOf, valueAxis, type Drawn } from './chart-drawing.js';

export interface DrawnLine extends Drawn {
  readonly points: readonly { readonly x: number; readonly y: number }[];
  /** For a line of few points. */
  readonly withDots?: boolean;
  readonly isDashed?: boolean;
}

interface CourseChart {
  readonly xTitle: string;
  readonly yTitle: string;
  readonly lines: readonly DrawnLine[];
  /** Whether the axis of values begins at 0. */
  readonly fromZero: boolean;
  /** As wide as the page; half of it otherwise. */
  readonly isWide?: boolean;
}

const HALF_WIDTH = 560;
const WHOLE_WIDTH = 1_120;
const HEIGHT = 300;

export function courseChart(chart: CourseChart): string {
  const { xTitle, yTitle, lines, fromZero, isWide = false } = chart;
  const ends = lines.flatMap(({ points }) => [points[0], points.at(-1)]);
  const xs = ends.flatMap((point) => (point === undefined ? [] : [point.x]));
  const range = { min: Math.min(...xs), max: Math.max(...xs) };
  return draw(
    HEIGHT,
    {
      ...legendOf(lines, lines.length > 1),
      xAxis: valueAxis(xTitle, xs.length === 0 ? {} : range),
      yAxis: valueAxis(yTitle, fromZero ? { min: 0 } : { scale: true }),
      series: lines.map(seriesOf),
    },
    isWide ? WHOLE_WIDTH : HALF_WIDTH,
  );
}

function seriesOf({ name, colour, points, withDots, isDashed }: DrawnLine): SeriesOption {
  return {
    type: 'line',
    name,
    data: points.map(({ x, y }) => [x, y]),
    symbol: withDots === true || points.length < 3 ? 'circle' : 'none',
    symbolSize: 7,
    color: colour,
    lineStyle: { width: 1.6, color: colour, type: isDashed === true ? 'dashed' : 'solid' },
  };
}

interface SmallChart {
  readonly lines: readonly DrawnLine[];
  /** Bounds of all charts that stand side by side. */
  readonly xRange: AxisRange;
  readonly yRange: AxisRange;
}

interface AxisRange {
  readonly min: number;
  readonly max: number;
}

const SMALL_WIDTH = 340;
const SMALL_HEIGHT = 190;

/** One of several drawings that are compared: its axes have no titles, and its legend stands above all. */
export function smallChart({ lines, xRange, yRange }: SmallChart): string {
  return draw(
    SMALL_HEIGHT,
    {
      grid: { left: 44, right: 12, top: 10, bottom: 26 },
      xAxis: valueAxis('', { ...xRange, splitNumber: 4 }),
      yAxis: valueAxis('', { ...yRange, splitNumber: 4 }),
      series: lines.map(seriesOf),
    },
    SMALL_WIDTH,
  );
}

interface LayersChart {
  readonly xTitle: string;
  readonly yTitle: string;
  /** The labels of the bars. */
  readonly categories: readonly string[];
  /** From below; each has a value for every bar. */
  readonly layers: readonly (Drawn & { readonly values: readonly number[] })[];
}

const LABELS_MAX = 12;

export function layersChart({ xTitle, yTitle, categories, layers }: LayersChart): string {
  const series = layers.map(({ name, colour, values }): SeriesOption => ({
    type: 'bar',
    name,
    stack: 'all',
    barCategoryGap: categories.length > 40 ? '0%' : '12%',
    data: [...values],
    color: colour,
  }));
  const every = Math.max(1, Math.ceil(categories.length / LABELS_MAX));
  return draw(
    320,
    {
      grid: { left: 70, right: 20, top: 16, bottom: 60 },
      xAxis: {
        type: 'category',
        name: xTitle,
        nameLocation: 'middle',
        nameGap: 34,
        nameTextStyle: { color: INK, fontSize: 13 },
        data: [...categories],
        axisLabel: { color: INK, fontSize: 12, interval: every - 1 },
        axisLine: { lineStyle: { color: 'var(--rule)' } },
        axisTick: { show: false },
      },
      yAxis: valueAxis(yTitle, { min: 0 }),
      series,
    },
    WHOLE_WIDTH,
  );
}
