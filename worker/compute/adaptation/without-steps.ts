/**
 * Tasks whose blocks do not move, because no block is personal or no task has support rows. Their
 * logits may still be shifted: the inner rate of a cell over the method's own then scales the shift's
 * prior variances.
 */

import { shiftsAfter, type OnAdapted, type PlacedCell } from './adapted-batch.js';
import type { AdaptingBatch } from './adapting-batch.js';

export function adaptWithoutSteps(
  batch: AdaptingBatch,
  cells: readonly PlacedCell[],
  onAdapted: OnAdapted,
): void {
  const { initial, loop } = batch;
  for (const rate of new Set(cells.map(({ innerRate }) => innerRate)))
    onAdapted(
      cells.filter(({ innerRate }) => innerRate === rate).map(({ place }) => place),
      { state: initial, shift: shiftsAfter(batch, initial, rate / loop.steps.rate) },
    );
}
