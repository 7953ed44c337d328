/** A task store as an evaluation divides it: the same tasks with other support and query rows. */

import { dividedTask, type RowDivision } from '../../shared/tasks/row-division.js';
import { tasksInOrder } from '../scoring/held-out-rows.js';
import type { TaskEntry, TaskStore } from '../../shared/tasks/task-store.js';

/**
 * @param taskIndices the tasks that will be read. The entries of other tasks keep the counts of the store.
 * @returns a store with the rows and row counts of the division. Closing it does not close `store`.
 */
export async function dividedStore(
  store: TaskStore,
  taskIndices: readonly number[],
  division: RowDivision,
): Promise<TaskStore> {
  const entries: TaskEntry[] = [...store.tasks];
  for await (const task of tasksInOrder(store, taskIndices)) {
    const entry = entries[task.taskIndex];
    if (entry === undefined) throw new Error(`the store has no task ${task.taskIndex}`);
    const { rowCount, supportRowCount } = dividedTask(task, division);
    const queryRowCount = rowCount - supportRowCount;
    entries[task.taskIndex] = { ...entry, supportRowCount, queryRowCount };
  }
  return {
    manifest: store.manifest,
    digest: store.digest,
    tasks: entries,
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) => dividedTask(task, division)),
    close: () => Promise.resolve(),
  };
}
