/**
 * The rows that a task reads of a neighbour: a bounded number of the support rows of a training task. Coordinator and workers derive the same rows.
 */

import { supportAlone } from './row-division.js';
import type { TaskRows } from '../task-store.js';

/** Neighbours of one task. */
export const NEIGHBOURS_MAX = 5;
/** Rows read of one neighbour, its first ones. */
const NEIGHBOUR_SUPPORT_ROWS_MAX = 64;

/** However the rows of the reading task are divided. */
export function neighbourRowsOf(neighbour: TaskRows): TaskRows {
  return supportAlone(neighbour, NEIGHBOUR_SUPPORT_ROWS_MAX);
}
