/**
 * Divides the rows of a task into those that it adapts on and those that are predicted, for evaluations
 * that need another division than the store's. Coordinator and workers derive the same rows.
 */

import { z } from 'zod';
import { taskRowsAt } from './rows-at.js';
import type { TaskEntry, TaskRows } from '../task-store.js';

/** Support: the first rows of the store's support set. Query: the store's. */
export const RowDivisionSchema = z.strictObject({
  by: z.literal('shots'),
  supportRowsMax: z.int().nonnegative(),
});

export type RowDivision = z.infer<typeof RowDivisionSchema>;

type RowCounts = Pick<TaskEntry, 'supportRowCount' | 'queryRowCount'>;

/** The row counts of a task as divided. */
export function dividedRowCounts(
  { supportRowCount, queryRowCount }: RowCounts,
  { supportRowsMax }: RowDivision,
): RowCounts {
  return { supportRowCount: Math.min(supportRowsMax, supportRowCount), queryRowCount };
}

/** The task as divided. Rows that belong to neither part are left out. */
export function dividedTask(task: TaskRows, { supportRowsMax }: RowDivision): TaskRows {
  const supportRowCount = Math.min(supportRowsMax, task.supportRowCount);
  const rows = Array.from({ length: task.rowCount }, (_, row) => row);
  const kept = rows.filter((row) => row < supportRowCount || row >= task.supportRowCount);
  return taskRowsAt(task, kept, supportRowCount);
}
