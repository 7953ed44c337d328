/** Means over seeds with 95 % intervals. */

import type { Interval } from '../../coordinator/scoring/evaluation-report.js';
import { at } from '../../shared/base/arrays.js';

/** The 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom. */
const QUANTILES = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048,
  2.045, 2.042,
];

/**
 * Null for fewer than two values.
 *
 * @param testPerTrain test tasks for each training task, where seeds divide the same rows anew and so are not independent
 *   (Nadeau and Bengio, 2003); 0 for independent seeds.
 */
export function intervalOver(values: readonly number[], testPerTrain = 0): Interval | null {
  const count = values.length;
  if (count < 2) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  // Beyond the table, its last quantile is a little too wide.
  const quantile = at(QUANTILES, Math.min(count - 1, QUANTILES.length) - 1);
  const half = quantile * Math.sqrt((squares / (count - 1)) * (1 / count + testPerTrain));
  return { value: mean, low: mean - half, high: mean + half };
}
