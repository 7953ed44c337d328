/** Scales updates by running moments: Adam without the learning rate, lazy on table rows. */

import type { OptimizerState } from '../training-state.js';
import {
  forEachTouched,
  mapDense,
  mapRows,
  scalarOf,
  slotOf,
  zeroSlots,
  type GradientTransformation,
} from './gradient-transformation.js';

const FIRST = 'adam.firstMoment';
const SECOND = 'adam.secondMoment';
/** beta^t, kept as a running product: multiplication gives the same bits on every machine. */
const FIRST_POWER = 'adam.firstDecayPower';
const SECOND_POWER = 'adam.secondDecayPower';

export interface AdamConstants {
  readonly firstMomentDecay: number;
  readonly secondMomentDecay: number;
  readonly epsilon: number;
}

/**
 * Adam (Kingma and Ba, ICLR 2015), algorithm 1 without the step size, at outer step t = 1, 2, ...:
 *
 *   m = b1 m + (1 - b1) g        update = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
 *   v = b2 v + (1 - b2) g^2
 *
 * Table rows are lazy: only touched rows decay their moments and move, and t counts outer steps,
 * not touches. A row touched for the first time at a late t is therefore corrected too little and
 * takes a first step of (1 - b1) / sqrt(1 - b2) times the usual size (about 3 with the defaults).
 * With every row touched it is plain Adam. Moments are float32, arithmetic is float64.
 */
export function scaleByAdam(constants: AdamConstants): GradientTransformation {
  const { firstMomentDecay: b1, secondMomentDecay: b2, epsilon } = constants;
  return {
    stage: 'adam',
    init(params) {
      const first = zeroSlots(FIRST, params);
      const second = zeroSlots(SECOND, params);
      return {
        dense: new Map([...first.dense, ...second.dense]),
        tables: new Map([...first.tables, ...second.tables]),
        scalars: { [FIRST_POWER]: 1, [SECOND_POWER]: 1 },
      };
    },
    update(updates, state) {
      const firstPower = scalarOf(state, FIRST_POWER) * b1;
      const secondPower = scalarOf(state, SECOND_POWER) * b2;
      const direction = (m: number, v: number): number =>
        m / (1 - firstPower) / (Math.sqrt(v / (1 - secondPower)) + epsilon);

      const dense = new Map(state.dense);
      const moved = mapDense(updates.dense, (g, name) => {
        const m = slotOf(state.dense, FIRST, name);
        const v = slotOf(state.dense, SECOND, name);
        const first = m.values.map((kept, i) => b1 * kept + (1 - b1) * (g[i] ?? 0));
        const second = v.values.map((kept, i) => b2 * kept + (1 - b2) * (g[i] ?? 0) ** 2);
        dense.set(`${FIRST}/${name}`, { shape: m.shape, values: first });
        dense.set(`${SECOND}/${name}`, { shape: v.shape, values: second });
        return first.map((moment, i) => direction(moment, second[i] ?? 0));
      });
      const rows = mapRows(updates.rows, (gradient, name) => {
        const m = slotOf(state.tables, FIRST, name);
        const v = slotOf(state.tables, SECOND, name);
        const directions = new Float32Array(gradient.values.length);
        forEachTouched(gradient, m.width, (i, at) => {
          const g = gradient.values[i] ?? 0;
          m.values[at] = b1 * (m.values[at] ?? 0) + (1 - b1) * g;
          v.values[at] = b2 * (v.values[at] ?? 0) + (1 - b2) * g ** 2;
          directions[i] = direction(m.values[at] ?? 0, v.values[at] ?? 0);
        });
        return directions;
      });
      const renewed: OptimizerState = {
        dense,
        tables: state.tables,
        scalars: { ...state.scalars, [FIRST_POWER]: firstPower, [SECOND_POWER]: secondPower },
      };
      return [{ dense: moved, rows }, renewed];
    },
  };
}
