/** A difference of two sides in words and figures. */

import type { RecordedDifference } from './real-record.js';

type Difference = Pick<RecordedDifference, 'value' | 'low' | 'high'>;

export function verdictOf(difference: Difference | null): string {
  if (difference === null) return '';
  if (difference.high < 0) return 'better';
  return difference.low > 0 ? 'worse' : 'level';
}

/** `-0.0021 [-0.0049, 0.0007]` */
export function differenceText(difference: Difference | null): string {
  if (difference === null) return '';
  const { value, low, high } = difference;
  return `${loglossText(value)} [${loglossText(low)}, ${loglossText(high)}]`;
}

export function loglossText(value: number): string {
  return value.toFixed(4);
}
