/** Copies of tasks that have some of their rows, in an order of the caller's. */

import { at } from '../../base/arrays.js';
import type { PlannedRows, TaskRows } from '../task-store.js';

/** The rows of one task that are wanted. */
export interface ChosenRows {
  /** Places of rows of the task; one may occur more than once. */
  readonly places: readonly number[];
  /** Those that are support rows, which come first. */
  readonly supportRowCount: number;
}

/** The rows of one task at these places, in this order, the first `supportRowCount` of them support. */
export function taskRowsAt(
  task: TaskRows,
  places: readonly number[],
  supportRowCount: number,
): TaskRows {
  return at(tasksRowsAt([task], [{ places, supportRowCount }]), 0);
}

/** The chosen rows of each task. */
export function tasksRowsAt(
  tasks: readonly TaskRows[],
  chosen: readonly ChosenRows[],
): readonly TaskRows[] {
  const planned = plannedRowsAt(tasks, chosen);
  const gather = gatherer(tasks, chosen);
  const [first] = tasks;
  const numbers = first?.numbers.map((_, feature) =>
    gather(Float32Array, (task) => at(task.numbers, feature)),
  );
  const clicks = gather(Float32Array, (task) => task.clicks);
  const oracle =
    first?.oracle === null
      ? null
      : gather(Float32Array, (task) => task.oracle ?? new Float32Array(task.rowCount));
  const times = gather(Float64Array, (task) => task.times);
  const logRows = gather(Float64Array, (task) => task.logRows);
  return tasks.map((task, place) => ({
    ...task,
    ...at(planned, place),
    rowCount: at(chosen, place).places.length,
    numbers: numbers?.map((column) => at(column, place)) ?? [],
    clicks: at(clicks, place),
    oracle: oracle === null ? null : at(oracle, place),
    times: at(times, place),
    logRows: at(logRows, place),
  }));
}

/** The same of what planning needs of the rows. */
export function plannedRowsAt(
  tasks: readonly PlannedRows[],
  chosen: readonly ChosenRows[],
): readonly PlannedRows[] {
  const gather = gatherer(tasks, chosen);
  const categories = tasks[0]?.categoryIds.map((_, feature) =>
    gather(Int32Array, (task) => at(task.categoryIds, feature)),
  );
  const bags = tasks[0]?.bagIds.map((_, feature) =>
    gather(Int32Array, (task) => at(task.bagIds, feature)),
  );
  const impressions = gather(Float32Array, (task) => task.impressions);
  return tasks.map(({ taskIndex }, place) => ({
    taskIndex,
    supportRowCount: at(chosen, place).supportRowCount,
    categoryIds: categories?.map((column) => at(column, place)) ?? [],
    bagIds: bags?.map((column) => at(column, place)) ?? [],
    impressions: at(impressions, place),
  }));
}

interface Values<Self> extends ArrayLike<number> {
  [row: number]: number;
  subarray(start: number, end: number): Self;
}

type Gather<Task> = <Column extends Values<Column>>(
  type: new (length: number) => Column,
  columnOf: (task: Task) => Column,
) => Column[];

/**
 * Copies a column of all tasks into one array and returns the part of each: an outer step that draws rows has tens of
 * thousands of columns of a few rows. A column may have several values a row.
 */
function gatherer<Task extends Pick<TaskRows, 'impressions'>>(
  tasks: readonly Task[],
  chosen: readonly ChosenRows[],
): Gather<Task> {
  const rowCount = chosen.reduce((sum, { places }) => sum + places.length, 0);
  return (type, columnOf) => {
    const [first] = tasks;
    if (first === undefined) return [];
    const width = columnOf(first).length / first.impressions.length;
    const whole = new type(rowCount * width);
    let end = 0;
    return tasks.map((task, place) => {
      const column = columnOf(task);
      const start = end;
      for (const row of at(chosen, place).places)
        for (let value = row * width; value < (row + 1) * width; value += 1) {
          whole[end] = column[value] ?? NaN;
          end += 1;
        }
      return whole.subarray(start, end);
    });
  };
}
