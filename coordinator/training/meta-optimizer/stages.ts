/** The stages of the meta-optimizer. */

import { DivergenceError, QianmoError } from '../../../shared/base/errors.js';
import type { ScheduleConfig } from '../../../shared/config/training-config.js';
import { isCovered, isNamed, type ModelSpec } from '../../../shared/models/model-spec.js';
import type { EmbeddingTable } from '../../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';
import {
  emptyOptimizerState,
  forEachUpdate,
  type GradientTransformation,
  type MetaGradient,
  type RowGradient,
  scalarOf,
  tableNamed,
  writableSlots,
  zeroSlots,
} from './gradient-transformation.js';

/**
 * Passes on the updates of the named variables, blocks of variables (`layer0` for its weight and
 * bias), tables by feature and, by the name of the method, all variables of the method. The others neither move nor count in the gradient's norm, and their
 * moments stay as they are.
 */
export function keepTrainable(
  trainable: readonly string[] | undefined,
  variables: ModelSpec['variables'],
): GradientTransformation {
  const blocks = new Map(variables.map(({ name, block }) => [name, block]));
  return {
    stage: 'trainable',
    init: () => emptyOptimizerState,
    update({ dense, rows }, state) {
      if (trainable === undefined) return [{ dense, rows }, state];
      const isKept = ([name]: readonly [string, unknown]): boolean => {
        const block = blocks.get(name);
        const learned = block === undefined ? { name } : { name, block };
        return trainable.some((named) => isCovered(learned, named));
      };
      return [
        { dense: new Map([...dense].filter(isKept)), rows: new Map([...rows].filter(isKept)) },
        state,
      ];
    },
  };
}

/** @throws QianmoError `usage` when neither the model nor the method has a given name. */
export function assertTrainable(
  { variables, tables }: Pick<ModelSpec, 'variables' | 'tables'>,
  trainable: readonly string[] | undefined,
  methodKind: string,
): void {
  const names = [...variables, ...tables].map(({ name }) => name);
  const methods = variables.some(({ block }) => block === 'method') ? [methodKind] : [];
  const unknown = trainable?.find(
    (named) => !methods.includes(named) && !names.some((name) => isNamed(name, named)),
  );
  if (unknown === undefined) return;
  const blocks = new Set(names.map((name) => name.split('.')[0] ?? name));
  throw new QianmoError({
    kind: 'usage',
    what: 'nothing of this name can be trained',
    where: 'training.trainable',
    expected: `some of ${[...blocks, ...methods].join(', ')}`,
    found: unknown,
    cure: 'name variables, their blocks, features with a table, or the method for all its variables',
  });
}

/** The norm of the last meta-gradient before clipping, which the run reports. */
export const GRADIENT_NORM = 'clip.gradientNorm';

/**
 * g * min(1, normMax / |g|) (Pascanu et al., ICML 2013).
 *
 * @throws DivergenceError when the norm is not finite. Every admitted gradient is finite, so the
 *   sum exceeds float32: training has diverged.
 */
export function clipByGlobalNorm(normMax: number): GradientTransformation {
  return {
    stage: 'clip',
    init: () => ({ ...emptyOptimizerState, scalars: { [GRADIENT_NORM]: 0 } }),
    update(updates, state) {
      const norm = globalNormOf(updates);
      if (!Number.isFinite(norm))
        throw new DivergenceError({
          kind: 'failed',
          what: 'training has diverged: the sum of finite task gradients is not finite',
          expected: 'a finite norm of the meta-gradient',
          found: `${norm}`,
          cure: 'lower method.innerRate or training.optimizer.rate and train again',
        });
      const renewed = { ...state, scalars: { ...state.scalars, [GRADIENT_NORM]: norm } };
      if (norm <= normMax) return [updates, renewed];
      const scale = normMax / norm;
      scaleUpdates(updates, scale);
      return [updates, renewed];
    },
  };
}

/** Sums in float64, variables and tables in the order of the spec, rows in the order of ids. */
function globalNormOf({ dense, rows }: MetaGradient): number {
  let squares = 0;
  for (const { values } of [...dense.values(), ...rows.values()])
    for (let index = 0; index < values.length; index += 1) squares += (values[index] ?? NaN) ** 2;
  return Math.sqrt(squares);
}

/** Uses a plain loop: a callback for each of millions of elements would dominate an outer step. */
function scaleUpdates(updates: MetaGradient, factor: number): void {
  forEachUpdate(updates, ({ values }) => {
    for (let i = 0; i < values.length; i += 1) values[i] = (values[i] ?? NaN) * factor;
  });
}

/**
 * gradient + ridge * parameter, which is the gradient of the loss plus ridge / 2 times the sum of squares (Hoerl and Kennard,
 * Technometrics 12(1), 1970). Variables without a gradient are frozen. Biases say what the level is, and have no reason to be near 0;
 * personal blocks are left alone, as by weight decay.
 */
export function addRidge(ridge: number, variables: ModelSpec['variables']): GradientTransformation {
  return pullToZero('ridge', (name, isDense) => {
    const block = variables.find((variable) => variable.name === name)?.block;
    return isDense && block === 'trunk' && !isBias(name) ? ridge : 0;
  });
}

function isBias(name: string): boolean {
  return name === 'bias' || name.endsWith('.bias');
}

/**
 * update + decay * parameter (AdamW: Loshchilov and Hutter, ICLR 2019). The rate is applied later,
 * so the decay is proportional to it. Personal blocks are not decayed: their initial values are
 * adapted, and decay would work against the inner loop. An untouched row keeps its values until it
 * is touched.
 *
 * @param tableDecay of table rows.
 */
export function addDecoupledWeightDecay(
  decay: number,
  variables: ModelSpec['variables'],
  tableDecay = decay,
): GradientTransformation {
  const trunk = new Set(variables.filter((v) => v.block === 'trunk').map((v) => v.name));
  return pullToZero('weightDecay', (name, isDense) => {
    if (!isDense) return tableDecay;
    return trunk.has(name) ? decay : 0;
  });
}

/** Adds a multiple of each parameter to its update. */
function pullToZero(
  stage: string,
  factorOf: (name: string, isDense: boolean) => number,
): GradientTransformation {
  return {
    stage,
    init: () => emptyOptimizerState,
    update(updates, state, params) {
      forEachUpdate(updates, (update, name, isDense) => {
        const factor = factorOf(name, isDense);
        if (factor > 0) addScaledRows(update, tableNamed(params, name, isDense), factor);
      });
      return [updates, state];
    },
  };
}

function addScaledRows(
  { ids, values: updates }: RowGradient,
  { width, values }: EmbeddingTable,
  factor: number,
): void {
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.addScaled(values, width, ids, updates, factor);
    return;
  }
  let place = 0;
  for (const id of ids) {
    const end = (id + 1) * width;
    for (let at = id * width; at < end; at += 1, place += 1)
      updates[place] = (updates[place] ?? NaN) + factor * (values[at] ?? NaN);
  }
}

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
      const { dense, slot } = writableSlots(state);
      forEachUpdate(updates, (update, name, isDense) =>
        moveVelocities(update, slot(VELOCITY, name, isDense), decay),
      );
      return [updates, { ...state, dense }];
    },
  };
}

function moveVelocities(
  { ids, values: updates }: RowGradient,
  { width, values }: EmbeddingTable,
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

const FIRST = 'adam.firstMoment';
const SECOND = 'adam.secondMoment';
/** beta^t, kept as a running product: multiplication gives the same bits on every machine. */
const FIRST_POWER = 'adam.firstDecayPower';
const SECOND_POWER = 'adam.secondDecayPower';

interface AdamConstants {
  readonly firstMomentDecay: number;
  readonly secondMomentDecay: number;
  readonly epsilon: number;
}

/** The factors of one outer step: direction = m / firstCorrection / (sqrt(v / secondCorrection) + epsilon). */
interface AdamStep extends AdamConstants {
  readonly firstCorrection: number;
  readonly secondCorrection: number;
}

/**
 * Adam (Kingma and Ba, ICLR 2015), algorithm 1 without the step size, at outer step t = 1, 2, ...:
 *
 *   m = b1 m + (1 - b1) g        update = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
 *   v = b2 v + (1 - b2) g^2
 *
 * Only touched table rows decay their moments and move, and t counts outer steps,
 * not touches. A row touched for the first time at a late t is therefore corrected too little and
 * takes a first step of (1 - b1) / sqrt(1 - b2) times the usual size (about 3 with the defaults).
 * Moments are float32, arithmetic is float64.
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
      const step = {
        ...constants,
        ...{ firstCorrection: 1 - firstPower, secondCorrection: 1 - secondPower },
      };
      const { dense, slot } = writableSlots(state);
      forEachUpdate(updates, (update, name, isDense) =>
        takeDirections(step, update, slot(FIRST, name, isDense), slot(SECOND, name, isDense)),
      );
      const powers = { [FIRST_POWER]: firstPower, [SECOND_POWER]: secondPower };
      return [updates, { ...state, dense, scalars: { ...state.scalars, ...powers } }];
    },
  };
}

/** Moves the moments of the touched rows, and replaces their gradient by the direction. */
export function takeDirections(
  { firstMomentDecay: b1, secondMomentDecay: b2, ...step }: AdamStep,
  { ids, values: directions }: RowGradient,
  { width, values: firsts }: EmbeddingTable,
  { values: seconds }: EmbeddingTable,
): void {
  const { firstCorrection, secondCorrection, epsilon } = step;
  const native = nativeRows();
  if (native !== null && width > 0) {
    const factors = Float64Array.of(b1, b2, firstCorrection, secondCorrection, epsilon);
    native.adam(firsts, width, ids, seconds, directions, factors);
    return;
  }
  let place = 0;
  for (const id of ids) {
    const end = (id + 1) * width;
    for (let at = id * width; at < end; at += 1, place += 1) {
      const g = directions[place] ?? NaN;
      const first = Math.fround(b1 * (firsts[at] ?? NaN) + (1 - b1) * g);
      const second = Math.fround(b2 * (seconds[at] ?? NaN) + (1 - b2) * g * g);
      firsts[at] = first;
      seconds[at] = second;
      directions[place] =
        first / firstCorrection / (Math.sqrt(second / secondCorrection) + epsilon);
    }
  }
}

const STEP = 'schedule.outerStep';

export function scaleBySchedule(
  rate: number,
  schedule: ScheduleConfig,
  outerSteps: number,
): GradientTransformation {
  return {
    stage: 'schedule',
    init: () => ({ ...emptyOptimizerState, scalars: { [STEP]: 0 } }),
    update(updates, state) {
      const outerStep = scalarOf(state, STEP);
      const stepSize = rate * rateShareAt(outerStep, schedule, outerSteps);
      scaleUpdates(updates, -stepSize);
      return [updates, { ...state, scalars: { ...state.scalars, [STEP]: outerStep + 1 } }];
    },
  };
}

/**
 * Returns the share of the rate at outer step 0, 1, ... It rises as (outerStep + 1) /
 * warmupOuterSteps, so that no step has a rate of 0. Then it falls from 1 to `finalShare` at
 * `outerSteps`, linearly or as half a cosine (Loshchilov and Hutter, ICLR 2017).
 */
export function rateShareAt(
  outerStep: number,
  { warmupOuterSteps, decay, finalShare }: ScheduleConfig,
  outerSteps: number,
): number {
  if (outerStep < warmupOuterSteps) return (outerStep + 1) / warmupOuterSteps;
  const decaySteps = Math.max(1, outerSteps - warmupOuterSteps);
  const progress = Math.min(1, (outerStep - warmupOuterSteps) / decaySteps);
  switch (decay) {
    case 'none':
      return 1;
    case 'linear':
      return finalShare + (1 - finalShare) * (1 - progress);
    case 'cosine':
      return finalShare + (1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * progress));
  }
}
