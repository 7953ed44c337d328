/**
 * Which rows of a task it adapts on and which are predicted, where an evaluation wants another
 * division than the store's. Coordinator and workers derive the same rows from the same task.
 */

import { z } from 'zod';
import type { TaskRows } from './task-store.js';

export const RowDivisionSchema = z.discriminatedUnion('by', [
  /** Support: the first rows of the store's support set. Query: the store's. */
  z.strictObject({ by: z.literal('shots'), supportRowsMax: z.int().nonnegative() }),
  /**
   * Support: all rows before `fromTime`, of either role in the store. Query: those from then on and
   * before `beforeTime`. Both in order of time, rows of one time as they lie in the store.
   */
  z.strictObject({ by: z.literal('time'), fromTime: z.number(), beforeTime: z.number() }),
]);

export type RowDivision = z.infer<typeof RowDivisionSchema>;

/** The task as the division has it; rows of neither part are left out. */
export function dividedTask(task: TaskRows, division: RowDivision): TaskRows {
  const places = [...task.times.keys()];
  switch (division.by) {
    case 'shots': {
      const supportRowCount = Math.min(division.supportRowsMax, task.supportRowCount);
      const kept = places.filter((row) => row < supportRowCount || row >= task.supportRowCount);
      return withRows(task, kept, supportRowCount);
    }
    case 'time': {
      const timeOf = (row: number): number => task.times[row] ?? 0;
      const kept = places
        .filter((row) => timeOf(row) < division.beforeTime)
        .sort((a, b) => timeOf(a) - timeOf(b) || a - b);
      return withRows(task, kept, kept.filter((row) => timeOf(row) < division.fromTime).length);
    }
  }
}

/** The rows at these places, in this order, the first `supportRowCount` of them support. */
function withRows(task: TaskRows, places: readonly number[], supportRowCount: number): TaskRows {
  const floats = (values: Float32Array): Float32Array =>
    Float32Array.from(places, (place) => values[place] ?? 0);
  const doubles = (values: Float64Array): Float64Array =>
    Float64Array.from(places, (place) => values[place] ?? 0);
  return {
    ...task,
    rowCount: places.length,
    supportRowCount,
    categoryIds: task.categoryIds.map((ids) => Int32Array.from(places, (place) => ids[place] ?? 0)),
    bagIds: task.bagIds.map((ids) => bagsAt(ids, ids.length / task.rowCount, places)),
    numbers: task.numbers.map(floats),
    clicks: floats(task.clicks),
    impressions: floats(task.impressions),
    oracle: task.oracle === null ? null : floats(task.oracle),
    times: doubles(task.times),
    logRows: doubles(task.logRows),
  };
}

function bagsAt(ids: Int32Array, lengthMax: number, places: readonly number[]): Int32Array {
  const bags = new Int32Array(places.length * lengthMax);
  for (const [row, place] of places.entries())
    bags.set(ids.subarray(place * lengthMax, (place + 1) * lengthMax), row * lengthMax);
  return bags;
}
