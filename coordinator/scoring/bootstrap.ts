/**
 * Percentile bootstrap over adgroups. Whole adgroups are drawn with replacement, so that rows of one
 * adgroup stay together. Every arm is judged on the same draws, which makes differences paired.
 */

import { at, requireSameLength, float64At, numberAt } from '../../shared/base/arrays.js';
import type { RandomStream } from '../../shared/base/random.js';
import type { Interval } from './evaluation-report.js';

interface BootstrapSettings {
  readonly samples: number;
  readonly confidence: number;
  readonly stream: RandomStream;
}

/** A function of the columns' sums over the drawn adgroups, for example a ratio of two. */
export type SumStatistic = (sums: Float64Array) => number;

/**
 * An interval for each statistic. `columns` hold one value per adgroup, `[adgroupCount]` each.
 * A statistic that is not finite on all adgroups has no interval (null).
 */
export function bootstrapIntervals(
  columns: readonly Float64Array[],
  statistics: readonly SumStatistic[],
  settings: BootstrapSettings,
): (Interval | null)[] {
  requireSameLength(...columns);
  const adgroupCount = at(columns, 0).length;
  const width = columns.length;
  // Adgroup-major, so that one draw reads contiguous memory.
  const values = new Float64Array(adgroupCount * width);
  for (const [column, source] of columns.entries())
    for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1)
      values[adgroup * width + column] = float64At(source, adgroup);

  const sums = new Float64Array(width);
  const add = (adgroup: number): void => {
    const start = adgroup * width;
    for (let column = 0; column < width; column += 1)
      sums[column] = (sums[column] ?? NaN) + (values[start + column] ?? NaN);
  };
  for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1) add(adgroup);
  const onAll = statistics.map((statistic) => statistic(sums));

  const drawn = statistics.map(() => new Float64Array(settings.samples));
  for (let sample = 0; sample < settings.samples; sample += 1) {
    sums.fill(0);
    for (let draw = 0; draw < adgroupCount; draw += 1) add(settings.stream.below(adgroupCount));
    for (const [index, statistic] of statistics.entries())
      at(drawn, index)[sample] = statistic(sums);
  }
  return onAll.map((value, index) =>
    percentileInterval(value, at(drawn, index), settings.confidence),
  );
}

/**
 * The interval of a value: the middle `confidence` of its draws. Draws that are not finite are left out.
 * Null if the value or every draw is not finite.
 */
function percentileInterval(
  value: number,
  draws: Float64Array,
  confidence: number,
): Interval | null {
  const sorted = draws.filter(Number.isFinite).sort();
  if (!Number.isFinite(value) || sorted.length === 0) return null;
  const tail = (1 - confidence) / 2;
  return { value, low: quantileOf(sorted, tail), high: quantileOf(sorted, 1 - tail) };
}

/** Linear interpolation between order statistics, of which there must be one. */
function quantileOf(sorted: ArrayLike<number>, share: number): number {
  const place = share * (sorted.length - 1);
  const below = numberAt(sorted, Math.floor(place));
  const above = numberAt(sorted, Math.ceil(place));
  return below + (above - below) * (place - Math.floor(place));
}
