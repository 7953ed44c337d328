/** A chart with a line through the values of each series, over the band of its intervals. */

import type { CustomSeriesRenderItemAPI, SeriesOption } from 'echarts';
import {
  categoryAxis,
  draw,
  legendOf,
  valueAxis,
  zeroLine,
  type DrawnIntervals,
  type IntervalChart,
} from './chart-drawing.js';

interface BandSeries extends DrawnIntervals {
  /** Set for a series that often coincides with another, so that both are visible. */
  readonly isDashed?: boolean;
}

interface BandChart extends IntervalChart {
  readonly series: readonly BandSeries[];
}

/** Characters that fit next to each other below the plot, and those of the space between labels. */
const LABEL_CHARACTERS_MAX = 110;
const GAP_CHARACTERS = 3;

export function bandChart(chart: BandChart): string {
  const { categories, categoryTitle, valueTitle, withZero = false } = chart;
  const labelCharacters = Math.max(0, ...categories.map((name) => name.length)) + GAP_CHARACTERS;
  const labelEvery = Math.ceil((categories.length * labelCharacters) / LABEL_CHARACTERS_MAX);
  return draw(380, {
    ...legendOf(chart.series, true),
    xAxis: categoryAxis(categoryTitle, categories, labelEvery),
    yAxis: valueAxis(valueTitle, { scale: true }),
    series: chart.series.flatMap((series, place) => [
      bandOf(series),
      lineOf(series, place === 0 && withZero),
    ]),
  });
}

function lineOf(
  { name, colour, intervals, isDashed }: BandSeries,
  withZero: boolean,
): SeriesOption {
  return {
    type: 'line',
    name,
    color: colour,
    data: intervals.map((interval) => interval?.value ?? null),
    symbol: 'circle',
    symbolSize: 6,
    lineStyle: { width: 2, color: colour, type: isDashed === true ? 'dashed' : 'solid' },
    ...(withZero ? { markLine: zeroLine('y') } : {}),
  };
}

/** One polygon, drawn with the first datum. The other data only set the extent of the axis. */
function bandOf({ name, colour, intervals }: DrawnIntervals): SeriesOption {
  const data = intervals.flatMap((interval, index) =>
    interval === null ? [] : [[index, interval.low, interval.high]],
  );
  return {
    type: 'custom',
    name,
    color: colour,
    silent: true,
    data,
    encode: { x: 0, y: [1, 2] },
    renderItem: (params, api) =>
      params.dataIndex === 0
        ? {
            type: 'polygon',
            shape: { points: outlineOf(data, api) },
            style: { fill: colour, opacity: 0.1 },
          }
        : null,
  };
}

function outlineOf(
  data: readonly (readonly number[])[],
  api: CustomSeriesRenderItemAPI,
): [number, number][] {
  const pointOf = (x = 0, y = 0): [number, number] => {
    const [left = 0, top = 0] = api.coord([x, y]);
    return [left, top];
  };
  const low = data.map(([x, value]) => pointOf(x, value));
  const high = data.map(([x, , value]) => pointOf(x, value));
  return [...low, ...high.reverse()];
}
