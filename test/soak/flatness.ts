/** Whether a measure grows over time: its slope against a bound. */

import { at, median } from '../../shared/base/arrays.js';

export interface Point {
  readonly minute: number;
  readonly value: number;
}

export interface GrowthRule {
  /** The growth that still counts as flat: the larger of a share of the level and an amount. */
  readonly sharePerHour: number;
  readonly amountPerHour: number;
  /**
   * What a window of time has as its level. Memory falls only when garbage is collected, so that its least
   * value tells what is kept.
   */
  readonly level: 'median' | 'least';
  /** Samples before it are not judged, in any case not the first quarter. */
  readonly settledMinute: number;
}

interface Flatness {
  /** Medians over the first and the last third of the windows, at least two. */
  readonly early: number;
  readonly late: number;
  readonly slopePerHour: number;
  readonly boundPerHour: number;
  readonly isFlat: boolean;
}

/** Caches fill, and heaps reach their size, before the judged time. */
const WARM_UP_SHARE = 0.25;
/** Memory needs windows in which garbage is collected at least once. */
const WINDOW_COUNT = { median: 12, least: 4 } as const;

/**
 * The slope is the median of the slopes between the levels of windows (Theil and Sen), so that single
 * peaks do not decide.
 *
 * @returns null if there are too few points to judge.
 */
export function flatnessOf(points: readonly Point[], rule: GrowthRule): Flatness | null {
  const first = points[0]?.minute ?? 0;
  const last = points.at(-1)?.minute ?? 0;
  const judgedFrom = Math.max(rule.settledMinute, first + WARM_UP_SHARE * (last - first));
  const judged = points.filter(({ minute }) => minute >= judgedFrom);
  const windowCount = WINDOW_COUNT[rule.level];
  if (judged.length < WINDOW_COUNT.median) return null;
  const levelOf = (part: readonly Point[]): number => {
    const values = part.map(({ value }) => value);
    return rule.level === 'least' ? Math.min(...values) : median(values);
  };
  const windows = Array.from({ length: windowCount }, (_, index) => {
    const from = Math.floor((index * judged.length) / windowCount);
    const part = judged.slice(from, Math.floor(((index + 1) * judged.length) / windowCount));
    return {
      minute: median(part.map(({ minute }) => minute)),
      value: levelOf(part),
    };
  });
  const slopes = windows.flatMap((later, index) =>
    windows
      .slice(0, index)
      .map((earlier) => (later.value - earlier.value) / (later.minute - earlier.minute)),
  );
  const third = Math.ceil(windowCount / 3);
  const medianOf = (part: readonly Point[]): number => median(part.map(({ value }) => value));
  const early = medianOf(windows.slice(0, third));
  const slopePerHour = 60 * median(slopes);
  const boundPerHour = Math.max(rule.sharePerHour * early, rule.amountPerHour);
  return {
    ...{ early, late: medianOf(windows.slice(-third)), slopePerHour, boundPerHour },
    isFlat: slopePerHour <= boundPerHour,
  };
}

/** Medians of equal spans of time, at most this many, so that a record stays small. */
export function thinned(points: readonly Point[], countMax: number): Point[] {
  const stride = Math.ceil(points.length / countMax);
  const rounded = (value: number): number => Math.round(value * 100) / 100;
  return Array.from({ length: Math.ceil(points.length / stride) }, (_, index) => {
    const part = points.slice(index * stride, (index + 1) * stride);
    return {
      minute: rounded(at(part, part.length >> 1).minute),
      value: rounded(median(part.map(({ value }) => value))),
    };
  });
}
