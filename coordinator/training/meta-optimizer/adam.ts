/**
 * Scales updates by running moments: Adam without the learning rate, lazy or dense on table rows.
 */

import type { OptimizerState } from '../../checkpoints/training-state.js';
import { movedRows, touchedRows, type AdamStep } from './adam-rows.js';
import {
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

interface AdamConstants {
  readonly firstMomentDecay: number;
  readonly secondMomentDecay: number;
  readonly epsilon: number;
  /** The second moment to whose root epsilon is added. */
  readonly epsilonOn?: 'corrected' | 'raw';
  /** True if table rows that no task touched keep still, as they do when this is absent. */
  readonly lazy?: boolean;
}

/**
 * Adam (Kingma and Ba, ICLR 2015), algorithm 1 without the step size, at outer step t = 1, 2, ...:
 *
 *   m = b1 m + (1 - b1) g        update = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
 *   v = b2 v + (1 - b2) g^2
 *
 * With epsilon on the raw moment (their section 2, at its end, and TensorFlow 1) it is
 * epsilon / sqrt(1 - b2^t).
 *
 * Lazy table rows: only touched rows decay their moments and move, and t counts outer steps,
 * not touches. A row touched for the first time at a late t is therefore corrected too little and
 * takes a first step of (1 - b1) / sqrt(1 - b2) times the usual size (about 3 with the defaults).
 * With every row touched it is plain Adam. Dense table rows: an untouched row has a gradient of 0,
 * and keeps moving while its first moment lasts. Moments are float32, arithmetic is float64.
 */
export function scaleByAdam(constants: AdamConstants): GradientTransformation {
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
      const firstPower = scalarOf(state, FIRST_POWER) * constants.firstMomentDecay;
      const secondPower = scalarOf(state, SECOND_POWER) * constants.secondMomentDecay;
      const step = adamStepOf(constants, firstPower, secondPower);
      const dense = new Map(state.dense);
      const moved = mapDense(updates.dense, (gradient, name) => {
        const m = slotOf(state.dense, FIRST, name);
        const v = slotOf(state.dense, SECOND, name);
        const first = new Float32Array(m.values);
        const second = new Float32Array(v.values);
        dense.set(`${FIRST}/${name}`, { shape: m.shape, values: first });
        dense.set(`${SECOND}/${name}`, { shape: v.shape, values: second });
        return directions(step, gradient, first, second);
      });
      const momentsOf = (name: string) => ({
        first: slotOf(state.tables, FIRST, name),
        second: slotOf(state.tables, SECOND, name),
      });
      const isLazy = constants.lazy !== false;
      const rows = isLazy
        ? mapRows(updates.rows, (gradient, name) => touchedRows(step, gradient, momentsOf(name)))
        : new Map(
            [...updates.rows].map(([name, gradient]) => [
              name,
              movedRows(step, gradient, momentsOf(name)),
            ]),
          );
      const renewed: OptimizerState = {
        dense,
        tables: state.tables,
        scalars: { ...state.scalars, [FIRST_POWER]: firstPower, [SECOND_POWER]: secondPower },
      };
      return [{ dense: moved, rows }, renewed];
    },
  };
}

function adamStepOf(
  { firstMomentDecay, secondMomentDecay, epsilon, epsilonOn }: AdamConstants,
  firstPower: number,
  secondPower: number,
): AdamStep {
  return {
    firstMomentDecay,
    secondMomentDecay,
    firstCorrection: 1 - firstPower,
    secondCorrection: 1 - secondPower,
    epsilon: epsilonOn === 'raw' ? epsilon / Math.sqrt(1 - secondPower) : epsilon,
  };
}

/**
 * Updates the moments in place, and replaces the gradient by the direction. All three have one shape.
 */
function directions(
  { firstMomentDecay: b1, secondMomentDecay: b2, ...step }: AdamStep,
  gradient: Float32Array,
  first: Float32Array,
  second: Float32Array,
): Float32Array {
  const { firstCorrection, secondCorrection, epsilon } = step;
  for (let i = 0; i < gradient.length; i += 1) {
    const g = gradient[i] ?? NaN;
    const m = Math.fround(b1 * (first[i] ?? NaN) + (1 - b1) * g);
    const v = Math.fround(b2 * (second[i] ?? NaN) + (1 - b2) * g * g);
    first[i] = m;
    second[i] = v;
    gradient[i] = m / firstCorrection / (Math.sqrt(v / secondCorrection) + epsilon);
  }
  return gradient;
}
