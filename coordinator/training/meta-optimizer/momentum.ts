/** Accumulates updates with momentum: SGD's velocity without the learning rate, lazy on table rows. */

import {
  forEachTouched,
  mapDense,
  mapRows,
  slotOf,
  zeroSlots,
  emptyOptimizerState,
  type GradientTransformation,
} from './gradient-transformation.js';

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
        const velocity = values.map((kept, i) => decay * kept + (g[i] ?? 0));
        dense.set(`${VELOCITY}/${name}`, { shape, values: velocity });
        return velocity;
      });
      const rows = mapRows(updates.rows, (gradient, name) => {
        const { width, values } = slotOf(state.tables, VELOCITY, name);
        const velocities = new Float32Array(gradient.values.length);
        forEachTouched(gradient, width, (i, at) => {
          values[at] = decay * (values[at] ?? 0) + (gradient.values[i] ?? 0);
          velocities[i] = values[at] ?? 0;
        });
        return velocities;
      });
      return [
        { dense: moved, rows },
        { ...state, dense },
      ];
    },
  };
}
