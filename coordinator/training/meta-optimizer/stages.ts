/** Restricts learning to the named variables and tables; the others are frozen. */

import { DivergenceError, QianmoError } from '../../../shared/base/errors.js';
import { isCovered, isNamed, type ModelSpec } from '../../../shared/models/model-spec.js';
import {
  emptyOptimizerState,
  type GradientTransformation,
  mapDense,
  mapRows,
  type MetaGradient,
  type RowGradient,
  scalarOf,
  scaledUpdates,
  slotOf,
  zeroSlots,
} from './gradient-transformation.js';
import type { EmbeddingTable } from '../../../shared/tensors/named-tensors.js';
import type { ScheduleConfig } from '../../../shared/config/training-config.js';

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
      return [scaledUpdates(updates, scale), renewed];
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

/**
 * gradient + ridge * parameter, which is the gradient of the loss plus ridge / 2 times the sum of squares (Hoerl and Kennard,
 * Technometrics 12(1), 1970). Variables without a gradient are frozen. Biases say what the level is, and have no reason to be near 0;
 * personal blocks are left alone, as by `decoupled-weight-decay.ts`.
 */
export function addRidge(ridge: number, variables: ModelSpec['variables']): GradientTransformation {
  const weights = new Set(
    variables.filter(({ name, block }) => block === 'trunk' && !isBias(name)).map((v) => v.name),
  );
  return {
    stage: 'ridge',
    init: () => emptyOptimizerState,
    update({ dense, rows }, state, params) {
      const pulled = mapDense(dense, (gradient, name) => {
        if (!weights.has(name)) return gradient;
        const parameter = params.dense.get(name);
        if (parameter === undefined) throw new Error(`no parameter ${name}`);
        for (let i = 0; i < gradient.length; i += 1)
          gradient[i] = (gradient[i] ?? NaN) + ridge * (parameter.values[i] ?? NaN);
        return gradient;
      });
      return [{ dense: pulled, rows }, state];
    },
  };
}

function isBias(name: string): boolean {
  return name === 'bias' || name.endsWith('.bias');
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
      return [
        scaledUpdates(updates, -stepSize),
        { ...state, scalars: { ...state.scalars, [STEP]: outerStep + 1 } },
      ];
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
