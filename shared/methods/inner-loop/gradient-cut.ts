/** How the tasks of a gradient job become micro-batches: worker and coordinator cut a job alike. */

import {
  flatMicroBatchesOf,
  microBatchesOf,
  type MicroBatch,
  type TaskSize,
} from '../../tasks/rows/micro-batches.js';
import { adapts, type MethodPlan } from './method.js';

interface CutBounds {
  /** The padded rows of a micro-batch, at most. */
  readonly rowsMax: number;
  /** Padded rows that are read for each task beside its own; 0 by default. */
  readonly rowsBeside?: number;
}

/** A method whose tasks do not adapt needs no task axis. */
export function gradientCutOf(
  plan: MethodPlan,
  sizes: readonly TaskSize[],
  { rowsMax, rowsBeside = 0 }: CutBounds,
): MicroBatch[] {
  if (!adapts(plan)) return flatMicroBatchesOf(sizes, rowsMax);
  return microBatchesOf(
    sizes.map((size) => sizeWithPairs(plan, size)),
    rowsMax,
    rowsBeside,
  );
}

/** The rows of a task that a micro-batch needs places for: as many of each set where they are pairs. */
function sizeWithPairs({ innerLoop }: MethodPlan, size: TaskSize): TaskSize {
  if (innerLoop.reads.rowPairs !== true) return size;
  const pairCount = Math.max(size.supportRowCount, size.queryRowCount);
  return { supportRowCount: pairCount, queryRowCount: pairCount };
}
