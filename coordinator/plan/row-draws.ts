/**
 * Draws the rows of an outer step one by one, from all tasks at once: a step of many rows of one adgroup moves what is
 * constant in it once for all of them. Pure in (seed, outer step, task list, count).
 */

import { at } from '../../shared/base/arrays.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { epochOrder } from './epoch-order.js';

/** A task of which more rows are drawn is there several times, so that each part fits into a job. */
const DRAWN_ROWS_PER_TASK_MAX = 768;

/** A task of an outer step. */
export interface DrawnTask extends TaskEntry {
  /** The places of its rows that were drawn, ascending; absent where all of its rows are read. */
  readonly drawnRows?: readonly number[];
}

interface RowDraws {
  readonly rowsPerOuterStep: number;
  /** Whether tasks adapt on their support rows: then only query rows are drawn. */
  readonly keepsSupport: boolean;
}

/**
 * Each epoch reads each row once, in an order of its own (`epoch-order.ts`), and epochs follow each other. The tasks of an outer step are
 * in the order of the list, each once, and again where more of its rows were drawn than a leaf can name.
 */
export function rowDrawer(
  seed: number,
  tasks: readonly TaskEntry[],
  { rowsPerOuterStep, keepsSupport }: RowDraws,
): (outerStep: number) => DrawnTask[] {
  const ends = new Float64Array(tasks.length);
  let rowCount = 0;
  for (const [place, { supportRowCount, queryRowCount }] of tasks.entries()) {
    rowCount += queryRowCount + (keepsSupport ? 0 : supportRowCount);
    ends[place] = rowCount;
  }
  return (outerStep) => {
    const first = outerStep * rowsPerOuterStep;
    let epoch = -1;
    let order: (place: number) => number = () => 0;
    const drawn = new Map<number, number[]>();
    for (let draw = first; draw < first + rowsPerOuterStep; draw += 1) {
      const ofDraw = Math.floor(draw / rowCount);
      if (ofDraw !== epoch) {
        epoch = ofDraw;
        order = epochOrder({ seed, epoch, count: rowCount });
      }
      const row = order(draw % rowCount);
      const task = placeOf(ends, row);
      const start = task === 0 ? 0 : at(ends, task - 1);
      const kept = keepsSupport ? at(tasks, task).supportRowCount : 0;
      const rows = drawn.get(task);
      if (rows === undefined) drawn.set(task, [kept + row - start]);
      else rows.push(kept + row - start);
    }
    return [...drawn]
      .sort(([a], [b]) => a - b)
      .flatMap(([task, rows]) =>
        partsOf(rows.sort((a, b) => a - b)).map((drawnRows) => ({ ...at(tasks, task), drawnRows })),
      );
  };
}

function partsOf(rows: readonly number[]): (readonly number[])[] {
  const count = Math.ceil(rows.length / DRAWN_ROWS_PER_TASK_MAX);
  return Array.from({ length: count }, (_, part) =>
    rows.slice(part * DRAWN_ROWS_PER_TASK_MAX, (part + 1) * DRAWN_ROWS_PER_TASK_MAX),
  );
}

/** The first place whose end is above the row. */
function placeOf(ends: Float64Array, row: number): number {
  let [low, high] = [0, ends.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(ends, middle) > row) high = middle;
    else low = middle + 1;
  }
  return low;
}
