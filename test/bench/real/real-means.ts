/** The means over seeds of the bench's differences, by set and support size, and their table. Pure. */

import { sumOf } from '../../../coordinator/scoring/metrics.js';
import { differenceText, verdictOf } from './difference-text.js';
import { isCompared } from './recorded-cell.js';
import type { RecordedCell, RecordedDifference } from './real-record.js';

type Interval = Pick<RecordedDifference, 'value' | 'low' | 'high'>;

export const MEANS_HEADINGS: readonly string[] = [
  ...['set', 'support', 'seeds', 'from the peer chosen on validation', 'verdict'],
  ...['from the best peer in hindsight', 'worst seed in hindsight'],
];

/** A row for each set and support size, in the order of the cells. */
export function meansRows(cells: readonly RecordedCell[]): (string | number)[][] {
  const bySet = new Map<string, RecordedCell[]>();
  for (const cell of cells.filter(isCompared)) {
    const key = `${cell.set}, ${cell.support}`;
    bySet.set(key, [...(bySet.get(key) ?? []), cell]);
  }
  return [...bySet.values()].map(meansRow);
}

function meansRow(cells: readonly RecordedCell[]): (string | number)[] {
  const [first] = cells;
  if (first === undefined) throw new Error('a group has cells');
  const chosen = meanOver(cells.map(({ differences }) => differences.chosen));
  const hindsight = cells.map(({ differences }) => differences.hindsight);
  const worst = cells.reduce((one, other) => (behind(other) > behind(one) ? other : one));
  return [
    ...[first.set, first.support, cells.length],
    ...[differenceText(chosen), verdictOf(chosen), differenceText(meanOver(hindsight))],
    `${worst.seed}, ${behind(worst).toFixed(4)}`,
  ];
}

function behind({ differences }: RecordedCell): number {
  return differences.hindsight?.value ?? -Infinity;
}

/**
 * The mean of intervals as if they were independent: their distances on either side add up by their squares. Seeds divide the
 * rows of the same real logs anew, so that they share some, and the interval is too narrow by an amount that is not known.
 */
export function meanOver(found: readonly (Interval | null)[]): Interval | null {
  const intervals = found.filter((interval) => interval !== null);
  const count = intervals.length;
  if (count === 0) return null;
  const value = sumOf(intervals.map((interval) => interval.value)) / count;
  const distance = (of: (interval: Interval) => number): number =>
    Math.sqrt(sumOf(intervals.map((interval) => of(interval) ** 2))) / count;
  return {
    value,
    low: value - distance((interval) => interval.value - interval.low),
    high: value + distance((interval) => interval.high - interval.value),
  };
}
