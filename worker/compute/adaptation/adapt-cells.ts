/**
 * Adapts a micro-batch of tasks in every cell of a grid of inner rates and steps. How follows from the
 * method: without steps, or by rate, so that cells of one rate share one inner loop.
 */

import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { AdaptingBatch } from './adapting-batch.js';
import { adaptByRate } from './by-rate.js';
import type { OnAdapted } from './adapted-batch.js';
import { adaptWithoutSteps } from './without-steps.js';

/** Calls `onAdapted` once for each distinct state, with the places of its cells in `cells`. */
export function adaptCells(
  batch: AdaptingBatch,
  cells: readonly Adaptation[],
  onAdapted: OnAdapted,
): void {
  const { functions, support, initial } = batch;
  const placed = [...cells.entries()].map(([place, cell]) => ({ place, ...cell }));
  const unadapted = placed.filter(({ innerSteps }) => innerSteps === 0);
  const adapted = placed.filter(({ innerSteps }) => innerSteps > 0);
  if (unadapted.length > 0)
    onAdapted(
      unadapted.map(({ place }) => place),
      { state: initial, shift: null },
    );
  const { step } = functions;
  if (step === null || support === null) adaptWithoutSteps(batch, adapted, onAdapted);
  else adaptByRate({ ...batch, step, support }, adapted, onAdapted);
}
