/**
 * Draws the rows of an outer step one by one, from all tasks at once: a step of many rows of one adgroup moves what is
 * constant in it once for all of them. Pure in (seed, outer step, task list, count).
 */

import { at } from '../../shared/base/arrays.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { wordAt } from '../../shared/base/addressed-bits.js';

/** A task of which more rows are drawn is there several times, so that each part fits into a job. */
const DRAWN_ROWS_PER_TASK_MAX = 768;

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
 * Each epoch reads each row once, in an order of its own (`epochOrder`), and epochs follow each other. The tasks of an outer step are
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
      const task = firstAbove(ends, row);
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

/** The place of the first total above the point; the last place if rounding put the point at the end. */
export function firstAbove(totals: Float64Array, point: number): number {
  let [low, high] = [0, totals.length - 1];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (at(totals, middle) > point) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * The order in which an epoch reads rows: a random order of all of them where they are few. Many rows are read window by
 * window, each of randomly drawn runs of adjacent rows, and in a random order within a window, so that the outer steps
 * of a window read again what the cache of record batches holds. Pure in (seed, epoch, count).
 */

interface Windows {
  /** The rows of one run: about a record batch of the task store. */
  readonly runRows: number;
  /** The rows of a window, up to those of one run more. */
  readonly windowRows: number;
}

/** A window of rows of 200 bytes is 100 MB, of a cache of 256 MiB. */
const WINDOWS: Windows = { runRows: 4_096, windowRows: 524_288 };

/** Returns the row, from 0 to `count` - 1, at each place of an epoch. Neighbouring places are the fastest. */
export function epochOrder(
  { seed, epoch, count }: { readonly seed: number; readonly epoch: number; readonly count: number },
  { runRows, windowRows }: Windows = WINDOWS,
): (place: number) => number {
  if (count <= windowRows) return randomOrder(count, randomStream(seed, 'row order', epoch));
  const runCount = Math.floor(count / runRows);
  const windowCount = Math.ceil(count / windowRows);
  const runs = randomOrder(runCount, randomStream(seed, 'row windows', epoch));
  const firstRunOf = (window: number): number => Math.floor((window * runCount) / windowCount);
  const openWindow = (window: number): RowWindow => {
    const [first, end] = [firstRunOf(window), firstRunOf(window + 1)];
    // Rows after the last whole run are in the last window.
    const rest = window === windowCount - 1 ? count - runCount * runRows : 0;
    const rowCount = (end - first) * runRows + rest;
    const starts = Array.from({ length: end - first }, (_, run) => runs(first + run) * runRows);
    return {
      window,
      first: first * runRows,
      starts: [...starts, runCount * runRows],
      order: randomOrder(rowCount, randomStream(seed, 'row order', epoch, window)),
    };
  };
  let open: RowWindow | null = null;
  return (place) => {
    const run = Math.min(Math.floor(place / runRows), runCount - 1);
    const window = Math.floor(((run + 1) * windowCount - 1) / runCount);
    if (open?.window !== window) open = openWindow(window);
    const row = open.order(place - open.first);
    return at(open.starts, Math.floor(row / runRows)) + (row % runRows);
  };
}

interface RowWindow {
  readonly window: number;
  /** The place of its first row in the epoch. */
  readonly first: number;
  /** The first row of each of its runs, then the row after all whole runs. */
  readonly starts: readonly number[];
  readonly order: (place: number) => number;
}

const ROUNDS = 4;

/**
 * A random order of very many numbers in constant memory: a Feistel network over the smallest power of 4 that holds
 * them is a permutation, and numbers that fall outside go through it again (Black and Rogaway, 2002, "Ciphers with arbitrary finite
 * domains").
 *
 * @returns the number at each place of a permutation of 0 to `count` - 1, for a count of at most 2^52.
 */
export function randomOrder(count: number, random: RandomStream): (place: number) => number {
  let half = 1;
  while (half * half < count) half *= 2;
  const keys = Array.from({ length: ROUNDS }, () => random.uint32());
  const permuted = (number: number): number => {
    let [left, right] = [Math.floor(number / half), number % half];
    for (let round = 0; round < ROUNDS; round += 1)
      [left, right] = [right, (left + (wordAt(at(keys, round), right) % half)) % half];
    return left * half + right;
  };
  return (place) => {
    let number = permuted(place);
    while (number >= count) number = permuted(number);
    return number;
  };
}
