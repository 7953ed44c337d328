/**
 * Masks of dropped hidden units (Srivastava et al., JMLR 2014), inverted: a kept unit has 1 / (1 - rate), a dropped
 * one 0, so that no weight has to be scaled when nothing is dropped. A value depends on the seed, the outer step, the
 * task, the row, the layer and the unit alone: neither workers, jobs and micro-batches nor the role of a row
 * change it, and all inner steps of an outer step see the same masks. No tensors here.
 */

import { at } from '../../../shared/base/arrays.js';
import { wordAt } from '../../../shared/base/addressed-bits.js';
import { randomStream } from '../../../shared/base/random.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { roleSpanOf, type RowRole } from './row-batch.js';

export interface UnitDropout {
  /** The share of hidden units that are dropped, below 1. */
  readonly units: number;
  /** The share of the values that the first hidden layer reads. */
  readonly inputs: number;
  /** The seed of the run. */
  readonly seed: number;
  readonly outerStep: number;
}

/** The rows of a role as they lie in a micro-batch (`row-batch.ts`). */
interface PlacedRows {
  readonly tasks: readonly Pick<TaskRows, 'taskIndex' | 'rowCount' | 'supportRowCount'>[];
  readonly role: RowRole;
  readonly taskCount: number;
  readonly rowExtent: number;
}

/** A layer whose outputs are dropped at a rate; with 0 it has no mask. */
export interface MaskedLayer {
  readonly width: number;
  readonly rate: number;
}

/** Sixteen bits decide about a unit. */
const LEVEL_COUNT = 2 ** 16;

/** By layer, `[taskCount * rowExtent, width]`; 0 at places without a row. Empty without a rate. */
export function unitMasksOf(
  { seed, outerStep }: Pick<UnitDropout, 'seed' | 'outerStep'>,
  { tasks, role, taskCount, rowExtent }: PlacedRows,
  layers: readonly MaskedLayer[],
): Float32Array[] {
  const masks = layers.map(
    ({ width, rate }) => new Float32Array(rate === 0 ? 0 : taskCount * rowExtent * width),
  );
  let placedCount = 0;
  for (const [index, task] of tasks.entries()) {
    const { start, end } = roleSpanOf(task, role);
    const firstPlace = role === 'flat' ? placedCount : index * rowExtent;
    placedCount += end - start;
    const keys = randomStream(seed, 'dropout', outerStep, task.taskIndex);
    for (const [place, mask] of masks.entries()) {
      const { width, rate } = at(layers, place);
      const key = keys.uint32();
      if (rate === 0) continue;
      const threshold = Math.round(rate * LEVEL_COUNT);
      const kept = LEVEL_COUNT / (LEVEL_COUNT - threshold);
      for (let row = start; row < end; row += 1)
        maskRow(mask, (firstPlace + row - start) * width, width, {
          key: wordAt(key, row),
          threshold,
          kept,
        });
    }
  }
  return masks;
}

interface RowMask {
  readonly key: number;
  readonly threshold: number;
  readonly kept: number;
}

/** Two units share a word. */
function maskRow(
  mask: Float32Array,
  first: number,
  width: number,
  { key, threshold, kept }: RowMask,
): void {
  for (let unit = 0; unit < width; unit += 2) {
    const word = wordAt(key, unit);
    if (word >>> 16 >= threshold) mask[first + unit] = kept;
    if (unit + 1 < width && (word & 0xffff) >= threshold) mask[first + unit + 1] = kept;
  }
}
