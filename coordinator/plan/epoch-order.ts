/**
 * The order in which an epoch reads rows: a random order of all of them where they are few. Many rows are read window by
 * window, each of randomly drawn runs of adjacent rows, and in a random order within a window, so that the outer steps
 * of a window read again what the cache of record batches holds. Pure in (seed, epoch, count).
 */

import { at } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import { randomOrder } from './row-order.js';

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
