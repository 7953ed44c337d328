/**
 * The rows of tasks that an outer step reads where it draws rows instead of tasks. Coordinator and worker derive the same
 * ones from a job.
 */

import { at } from '../../base/arrays.js';
import { QianmoError } from '../../base/errors.js';
import type { PlannedRows, TaskRows } from '../task-store.js';
import { plannedRowsAt, tasksRowsAt, type ChosenRows } from './rows-at.js';

export interface DrawnRows {
  /** By task, places among its rows, ascending; a row that was drawn twice is there twice. */
  readonly byTask: readonly (readonly number[])[];
  /** Whether tasks have all their support rows besides, which they adapt on. */
  readonly keepsSupport: boolean;
}

/** @throws QianmoError of kind `data` if a place is none of a row of its task. */
export function withDrawnRows(
  tasks: readonly TaskRows[],
  drawn: DrawnRows | null,
): readonly TaskRows[] {
  return drawn === null ? tasks : tasksRowsAt(tasks, chosenRowsOf(tasks, drawn));
}

/** The same of what planning needs of the rows. */
export function withPlannedDrawnRows(
  tasks: readonly PlannedRows[],
  drawn: DrawnRows | null,
): readonly PlannedRows[] {
  return drawn === null ? tasks : plannedRowsAt(tasks, chosenRowsOf(tasks, drawn));
}

/** The places of the rows that each task has then. */
function chosenRowsOf(
  tasks: readonly PlannedRows[],
  { byTask, keepsSupport }: DrawnRows,
): ChosenRows[] {
  return tasks.map((task, index) => {
    const { supportRowCount } = task;
    const places = byTask[index] ?? [];
    const misplaced = places.find((place) => place >= task.impressions.length);
    if (misplaced !== undefined || places.length === 0) throw misplacedRow(task, misplaced);
    const ofSupport = places.filter((place) => place < supportRowCount).length;
    if (!keepsSupport) return { places, supportRowCount: ofSupport };
    const support = Array.from({ length: supportRowCount }, (_, place) => place);
    return { places: [...support, ...places.slice(ofSupport)], supportRowCount };
  });
}

/** By task, a column of drawn rows that is made of the columns of all rows, which end with the drawn query rows. */
export function drawnPart(
  column: Float32Array,
  { supportRowCount }: Pick<TaskRows, 'supportRowCount'>,
  places: readonly number[],
): Float32Array {
  const part = new Float32Array(places.length);
  let ofQuery = supportRowCount;
  for (const [row, place] of places.entries()) {
    part[row] = at(column, place < supportRowCount ? place : ofQuery);
    if (place >= supportRowCount) ofQuery += 1;
  }
  return part;
}

function misplacedRow(
  { taskIndex, impressions }: PlannedRows,
  place: number | undefined,
): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a job names rows that its task does not have',
    where: `task ${taskIndex}`,
    expected: `places below ${impressions.length}, at least one`,
    found: place === undefined ? 'none' : String(place),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}
