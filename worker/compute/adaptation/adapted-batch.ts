/** Tasks of a micro-batch after their adaptation, and the shifts of their logits. */

import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import type { SupportShifts } from '../scoring/row-shifts.js';
import type { AdaptingBatch } from './adapting-batch.js';

export interface AdaptedBatch {
  readonly state: LoopState;
  /** Null where no shift follows. */
  readonly shift: SupportShifts | null;
}

/**
 * Takes the adapted tasks of some cells. The state is freed after the call.
 *
 * @param cells places in the grid.
 */
export type OnAdapted = (cells: readonly number[], adapted: AdaptedBatch) => void;

/** A cell of a grid with its place there. */
export type PlacedCell = Adaptation & { readonly place: number };

/**
 * The shifts that follow from a state; null where the method has none, and 0 where no task has
 * support rows.
 *
 * @param priorScale a factor of the prior variances.
 */
export function shiftsAfter(
  { functions, job, loop, microBatch, support }: AdaptingBatch,
  state: LoopState,
  priorScale?: number,
): SupportShifts | null {
  const { shifts } = functions;
  if (shifts === null || loop.shift === null) return null;
  if (support === null)
    return {
      levels: new Float32Array(microBatch.taskCount),
      effects: loop.shift.features.map(() => new Float32Array()),
    };
  const { tf } = job.engine;
  const { batch, trunk } = support;
  const scale = priorScale === undefined ? {} : { priorScale: tf.scalar(priorScale) };
  const found = shifts.run({ dense: job.dense, batch, trunk, state, ...scale });
  const read = {
    levels: found.levels.dataSync<'float32'>(),
    effects: found.effects.map((effects) => effects.dataSync<'float32'>()),
  };
  tf.dispose([found.levels, ...found.effects]);
  return read;
}
