/**
 * What a task reads of a neighbour: a training task's support rows, as far as they were known when the
 * task adapts, and no more than a bounded number. Coordinator and workers derive the same rows.
 */

import { dividedTask, supportAlone, type RowDivision } from './row-division.js';
import type { TaskRows } from './task-store.js';

/** Of one task. */
export const NEIGHBOURS_MAX = 5;
/** Of one neighbour, its first. */
const NEIGHBOUR_SUPPORT_ROWS_MAX = 64;

/**
 * @param division of the rows of the task that reads them. By time, no row of the neighbour outruns it;
 *   other divisions are not the neighbour's.
 */
export function neighbourRowsOf(neighbour: TaskRows, division?: RowDivision): TaskRows {
  const known = division?.by === 'time' ? dividedTask(neighbour, division) : neighbour;
  return supportAlone(known, NEIGHBOUR_SUPPORT_ROWS_MAX);
}
