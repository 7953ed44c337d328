/**
 * Divides the rows of a task into those that it adapts on and those that are predicted, for evaluations
 * that need another division than the store's. Coordinator and workers derive the same rows.
 */

import { at } from '../../base/arrays.js';
import { randomStream, type RandomStream } from '../../base/random.js';
import { z } from 'zod';
import { taskRowsAt } from './rows-at.js';
import type { TaskEntry, TaskRows } from '../task-store.js';

export const RowDivisionSchema = z.discriminatedUnion('by', [
  /** Support: the first rows of the store's support set. Query: the store's. */
  z.strictObject({ by: z.literal('shots'), supportRowsMax: z.int().nonnegative() }),
  /**
   * Support: the first `phase` minibatches of `rowsPerPhase` rows of the store's support set, the
   * last of which may be short. An adaptation takes its inner steps on each minibatch in turn and
   * continues from the blocks of the one before. Query: the store's.
   */
  z.strictObject({
    by: z.literal('phases'),
    rowsPerPhase: z.int().positive(),
    phase: z.int().nonnegative().max(100),
  }),
  /**
   * Support: all rows before `fromTime`, of either role in the store. Query: those from then on and
   * before `beforeTime`. Both are in order of time; rows of one time are in the order of the store.
   */
  z.strictObject({ by: z.literal('time'), fromTime: z.number(), beforeTime: z.number() }),
  /**
   * Another division of the same rows, drawn from the seed, the number of the draw and the task. By hash,
   * rows change places at random and the number of support rows stays. By time, rows keep their order and
   * the cut moves, by at most half of the rows on either side of the store's, so that no row is predicted
   * from later ones.
   */
  z.strictObject({
    by: z.literal('draw'),
    draw: z.int().positive().max(1000),
    seed: z.int().nonnegative(),
    order: z.enum(['hash', 'time']),
  }),
]);

export type RowDivision = z.infer<typeof RowDivisionSchema>;
export type TimeDivision = Extract<RowDivision, { by: 'time' }>;
/** A division whose row counts follow from those of the store. */
export type CountedDivision = Exclude<RowDivision, TimeDivision>;
type Draw = Extract<RowDivision, { by: 'draw' }>;

export type RowCounts = Pick<TaskEntry, 'taskIndex' | 'supportRowCount' | 'queryRowCount'>;

/** The row counts of a task as divided. */
export function dividedRowCounts(
  { taskIndex, supportRowCount, queryRowCount }: RowCounts,
  division: CountedDivision,
): RowCounts {
  switch (division.by) {
    case 'shots': {
      const count = Math.min(division.supportRowsMax, supportRowCount);
      return { taskIndex, supportRowCount: count, queryRowCount };
    }
    case 'phases': {
      const count = Math.min(division.phase * division.rowsPerPhase, supportRowCount);
      return { taskIndex, supportRowCount: count, queryRowCount };
    }
    case 'draw': {
      if (division.order === 'hash') return { taskIndex, supportRowCount, queryRowCount };
      const rowCount = supportRowCount + queryRowCount;
      const cut = drawnCut({ rowCount, supportRowCount }, streamOf(division, taskIndex));
      return { taskIndex, supportRowCount: cut, queryRowCount: rowCount - cut };
    }
  }
}

/** The task as divided. Rows that belong to neither part are left out. */
export function dividedTask(task: TaskRows, division: RowDivision): TaskRows {
  switch (division.by) {
    case 'shots':
      return withSupport(task, 0, division.supportRowsMax, true);
    case 'phases':
      return withSupport(task, 0, division.phase * division.rowsPerPhase, true);
    case 'time': {
      const kept = inOrderOfTime(task).filter((row) => at(task.times, row) < division.beforeTime);
      const support = kept.filter((row) => at(task.times, row) < division.fromTime);
      return taskRowsAt(task, kept, support.length);
    }
    case 'draw':
      return drawnTask(task, division);
  }
}

function inOrderOfTime({ times }: TaskRows): number[] {
  return [...times.keys()].sort((a, b) => at(times, a) - at(times, b) || a - b);
}

function drawnTask(task: TaskRows, division: Draw): TaskRows {
  const stream = streamOf(division, task.taskIndex);
  if (division.order === 'hash')
    return taskRowsAt(task, stream.shuffle([...task.times.keys()]), task.supportRowCount);
  return taskRowsAt(task, inOrderOfTime(task), drawnCut(task, stream));
}

function streamOf({ draw, seed }: Draw, taskIndex: number): RandomStream {
  return randomStream(seed, 'validation draw', draw, taskIndex);
}

/** A number of support rows that is at most half of the rows on either side of the store's away from it. */
function drawnCut(
  { rowCount, supportRowCount }: Pick<TaskRows, 'rowCount' | 'supportRowCount'>,
  stream: RandomStream,
): number {
  const first = Math.ceil(supportRowCount / 2);
  const last = supportRowCount + Math.floor((rowCount - supportRowCount) / 2);
  return first + stream.below(last - first + 1);
}

/** The minibatches of the phases so far, each a task with support rows only. */
export function phaseMinibatches(
  task: TaskRows,
  { phase, rowsPerPhase }: Extract<RowDivision, { by: 'phases' }>,
): TaskRows[] {
  return Array.from({ length: phase }, (_, index) =>
    withSupport(task, index * rowsPerPhase, (index + 1) * rowsPerPhase, false),
  );
}

/** The existing support rows from `first` to before `end`, with the query rows or without. */
function withSupport(task: TaskRows, first: number, end: number, hasQuery: boolean): TaskRows {
  const last = Math.min(end, task.supportRowCount);
  const support = Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
  const queryRowCount = hasQuery ? task.rowCount - task.supportRowCount : 0;
  const query = Array.from({ length: queryRowCount }, (_, index) => task.supportRowCount + index);
  return taskRowsAt(task, [...support, ...query], support.length);
}
