/**
 * The rows that a task reads of a neighbour: a bounded number of the support rows of a training task that
 * were known when the task adapts. Coordinator and workers derive the same rows.
 */

import { dividedTask, supportAlone, type RowDivision } from './row-division.js';
import type { TaskRows } from '../task-store.js';

/** Neighbours of one task. */
export const NEIGHBOURS_MAX = 5;
/** Rows read of one neighbour, its first ones. */
const NEIGHBOUR_SUPPORT_ROWS_MAX = 64;

/**
 * @param division the division of the rows of the reading task. If it is by time, no later row of the
 *   neighbour is read; other divisions do not apply to the neighbour.
 */
export function neighbourRowsOf(neighbour: TaskRows, division?: RowDivision): TaskRows {
  const known = division?.by === 'time' ? dividedTask(neighbour, division) : neighbour;
  return supportAlone(known, NEIGHBOUR_SUPPORT_ROWS_MAX);
}
