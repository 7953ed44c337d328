/** Curves over a continuous axis: calibration, distributions of differences, and progress. */

import { at } from '../../../shared/base/arrays.js';
import type { SeriesOption } from 'echarts';
import { draw, INK, legendOf, valueAxis, zeroLine, type Drawn } from './chart-drawing.js';
import type { CalibrationBin } from '../../scoring/metrics.js';

interface DrawnCurve extends Drawn {
  readonly bins: readonly CalibrationBin[];
  readonly isDashed?: boolean;
}

/**
 * Click rate against prediction in bins of equal impressions; the diagonal is perfect.
 *
 * @param rate the name of the observed rate; for values, of their mean
 */
export function calibrationCurvesChart(
  curves: readonly DrawnCurve[],
  withLegend = true,
  rate = 'click rate',
): string {
  const places = curves.flatMap(({ bins }) => bins.flatMap((b) => [b.meanPrediction, b.clickRate]));
  const reach = 1.05 * Math.max(...places);
  // Values may be negative.
  const least = 1.05 * Math.min(0, ...places);
  const series = curves.map(({ name, colour, bins, isDashed = false }): SeriesOption => ({
    type: 'line',
    name,
    data: bins.map((bin) => [bin.meanPrediction, bin.clickRate]),
    symbol: 'circle',
    symbolSize: 6,
    color: colour,
    lineStyle: { width: 2, color: colour, type: isDashed ? 'dashed' : 'solid' },
  }));
  const diagonal: SeriesOption = {
    type: 'line',
    data: [
      [least, least],
      [reach, reach],
    ],
    symbol: 'none',
    silent: true,
    lineStyle: { width: 1, type: 'dotted', color: INK },
  };
  return draw(440, {
    ...legendOf(curves, withLegend),
    xAxis: valueAxis('mean prediction of the bin', { min: least, max: reach }),
    yAxis: valueAxis(`${rate} of the bin`, { min: least, max: reach }),
    series: [diagonal, ...series],
  });
}

interface DrawnHistogram extends Drawn {
  /** One more than `adgroupCounts`; the same for every histogram of a plot. */
  readonly edges: readonly number[];
  readonly adgroupCounts: readonly number[];
}

/** The distribution of differences over adgroups. */
export function histogramsChart(
  histograms: readonly DrawnHistogram[],
  differenceTitle: string,
  withLegend = true,
): string {
  const series = histograms.map(({ name, colour, edges, adgroupCounts }, index): SeriesOption => ({
    type: 'line',
    name,
    step: 'end',
    data: edges.map((edge, bin) => [
      edge,
      at(adgroupCounts, Math.min(bin, adgroupCounts.length - 1)),
    ]),
    symbol: 'none',
    color: colour,
    lineStyle: { width: 2, color: colour },
    areaStyle: { color: colour, opacity: 0.08 },
    ...(index === 0 ? { markLine: zeroLine('x') } : {}),
  }));
  return draw(340, {
    ...legendOf(histograms, withLegend),
    xAxis: valueAxis(differenceTitle, {
      min: histograms[0]?.edges[0] ?? -1,
      max: histograms[0]?.edges.at(-1) ?? 1,
    }),
    yAxis: valueAxis('adgroups', {}),
    series,
  });
}

interface DrawnProgress extends Drawn {
  readonly points: readonly (readonly [number, number])[];
  /** True for a line that is drawn behind the others and is not in the legend. */
  readonly isFaint: boolean;
  /** True for one result at the end of training, without a course. */
  readonly isEndAlone: boolean;
}

/** The course of a number during training, one line for each run. */
export function progressChart(
  lines: readonly DrawnProgress[],
  xTitle: string,
  yTitle: string,
): string {
  const series = lines.map(({ name, colour, points, isFaint, isEndAlone }): SeriesOption => ({
    type: 'line',
    name,
    data: points.map(([x, y]) => [x, y]),
    symbol: isEndAlone ? 'diamond' : 'circle',
    symbolSize: (isFaint ? 5 : 8) + (isEndAlone ? 5 : 0),
    color: colour,
    lineStyle: { width: isFaint ? 1 : 2, color: colour, opacity: isFaint ? 0.4 : 1 },
    itemStyle: { opacity: isFaint ? 0.5 : 1 },
  }));
  const named = lines.filter(({ isFaint }) => !isFaint).reverse();
  return draw(400, {
    ...legendOf(named, true),
    xAxis: valueAxis(xTitle, { min: 0 }),
    yAxis: valueAxis(yTitle, { scale: true }),
    series,
  });
}
