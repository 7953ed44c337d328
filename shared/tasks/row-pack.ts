/**
 * The row pack: which rows of which tables a job touches, and where each id of the job lies in it.
 * Coordinator and worker derive the same pack from the same tasks, so ids never travel.
 */

import type { TaskRows } from './task-store.js';

export interface RowPackLayout {
  /** Ascending unique ids by table: category features, then bag features, in manifest order. */
  readonly idsByTable: readonly Int32Array[];
  /** First row of each table within the pack. */
  readonly startByTable: readonly number[];
  readonly rowCount: number;
}

export function rowPackLayoutOf(tasks: readonly TaskRows[]): RowPackLayout {
  const [first] = tasks;
  if (first === undefined) return { idsByTable: [], startByTable: [], rowCount: 0 };
  const columnsOf = (task: TaskRows): readonly Int32Array[] => [
    ...task.categoryIds,
    ...task.bagIds,
  ];
  const idsByTable = columnsOf(first).map((_, table) => {
    const unique = new Set<number>();
    for (const task of tasks)
      for (const id of columnsOf(task)[table] ?? []) if (id >= 0) unique.add(id);
    return Int32Array.from(unique).sort();
  });
  const startByTable: number[] = [];
  let rowCount = 0;
  for (const ids of idsByTable) {
    startByTable.push(rowCount);
    rowCount += ids.length;
  }
  return { idsByTable, startByTable, rowCount };
}
