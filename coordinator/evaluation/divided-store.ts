/** A task store as an evaluation divides it: the same tasks with other support and query rows. */

import { at } from '../../shared/base/arrays.js';
import {
  dividedRowCounts,
  dividedTask,
  type CountedDivision,
  type RowCounts,
  type RowDivision,
} from '../../shared/tasks/rows/row-division.js';
import type { TaskEntry, TaskStore } from '../../shared/tasks/task-store.js';
import { timeDivisionOf, type Period } from './replay-periods.js';

/**
 * @param taskIndices the tasks that will be read. The entries of other tasks keep the counts of the store.
 * @returns a store with the rows and row counts of the division. Closing it does not close `store`.
 */
export function dividedStore(
  store: TaskStore,
  taskIndices: readonly number[],
  division: CountedDivision,
): TaskStore {
  const rowCounts = taskIndices.map((index) => dividedRowCounts(at(store.tasks, index), division));
  return storeWith(store, rowCounts, division);
}

/** The store as it is divided for a period, of which only the tasks with rows in it may be read. */
export function storeOfPeriod(store: TaskStore, period: Period): TaskStore {
  const rowCounts = period.taskIndices.map((taskIndex, place) => ({
    taskIndex,
    supportRowCount: at(period.supportRowCounts, place),
    queryRowCount: at(period.queryRowCounts, place),
  }));
  return storeWith(store, rowCounts, timeDivisionOf(period));
}

function storeWith(
  store: TaskStore,
  rowCounts: readonly RowCounts[],
  division: RowDivision,
): TaskStore {
  const entries: TaskEntry[] = [...store.tasks];
  for (const counts of rowCounts)
    entries[counts.taskIndex] = { ...at(store.tasks, counts.taskIndex), ...counts };
  return {
    manifest: store.manifest,
    digest: store.digest,
    tasks: entries,
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) => dividedTask(task, division)),
    close: () => Promise.resolve(),
  };
}
