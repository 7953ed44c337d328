/** Means over seeds with 95 % intervals by Student's t: seeds are independent markets. */

import { at } from '../../shared/base/arrays.js';
import type { Interval } from '../scoring/evaluation-report.js';

/** The 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom. */
const QUANTILES = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048,
  2.045, 2.042,
];

/** Null for fewer than two values. */
export function intervalOver(values: readonly number[]): Interval | null {
  const count = values.length;
  if (count < 2) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  // Beyond the table, its last quantile is a little too wide.
  const quantile = at(QUANTILES, Math.min(count - 1, QUANTILES.length) - 1);
  const half = quantile * Math.sqrt(squares / (count - 1) / count);
  return { value: mean, low: mean - half, high: mean + half };
}
