/** Accumulates updates with momentum: SGD's velocity without the learning rate, lazy on table rows. */

import {
  mapDense,
  mapRows,
  slotOf,
  zeroSlots,
  emptyOptimizerState,
  type GradientTransformation,
} from './gradient-transformation.js';
import type { RowGradient } from './meta-gradient.js';
import type { EmbeddingTable } from '../../../shared/tensors/embedding-table.js';

const VELOCITY = 'momentum.velocity';

/**
 * velocity = decay * velocity + g (Polyak, 1964); the update is the velocity. Only touched rows
 * decay and move. Without decay it passes updates on and keeps no state.
 */
export function accumulateMomentum(decay: number): GradientTransformation {
  return {
    stage: 'momentum',
    init: (params) =>
      decay === 0
        ? emptyOptimizerState
        : { ...emptyOptimizerState, ...zeroSlots(VELOCITY, params) },
    update(updates, state) {
      if (decay === 0) return [updates, state];
      const dense = new Map(state.dense);
      const moved = mapDense(updates.dense, (g, name) => {
        const { shape, values } = slotOf(state.dense, VELOCITY, name);
        for (let i = 0; i < g.length; i += 1) g[i] = decay * (values[i] ?? NaN) + (g[i] ?? NaN);
        // Later stages write to the updates, so the state keeps a copy.
        dense.set(`${VELOCITY}/${name}`, { shape, values: g.slice() });
        return g;
      });
      const rows = mapRows(updates.rows, (gradient, name) => {
        const { width, values } = slotOf(state.tables, VELOCITY, name);
        moveVelocities(gradient, { width, values }, decay);
        return gradient.values;
      });
      return [
        { dense: moved, rows },
        { ...state, dense },
      ];
    },
  };
}

function moveVelocities(
  { ids, values: updates }: RowGradient,
  { width, values }: Pick<EmbeddingTable, 'width' | 'values'>,
  decay: number,
): void {
  let place = 0;
  for (const id of ids) {
    const end = (id + 1) * width;
    for (let at = id * width; at < end; at += 1, place += 1) {
      const velocity = Math.fround(decay * (values[at] ?? NaN) + (updates[place] ?? NaN));
      values[at] = velocity;
      updates[place] = velocity;
    }
  }
}
