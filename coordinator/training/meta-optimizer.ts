/**
 * The meta-optimizer of a run: a chain of stages, each a pair of functions on values, after Optax. All state is passed
 * in and returned, so a checkpoint is exactly the state and a resume is bit for bit.
 *
 * Tables are the exception to purity. A table has millions of rows and an outer step touches
 * thousands, so `update` writes the touched rows of state tables in place and returns the same
 * tables. The outer loop owns the state and must not use an old one after an update. Dense tensors
 * and scalars of the state are replaced and never written to.
 *
 * Updates are handed on: a stage may write to those that it is given and return the same arrays, so an
 * outer step allocates nothing for its rows. Nobody else may hold them, and no stage keeps them.
 *
 * A row is touched when it is in a row pack of this outer step. Untouched rows and their state stay
 * as they are.
 */

import { DivergenceError, errorOf } from '../../shared/base/errors.js';
import type { ScheduleConfig, TrainingConfig } from '../../shared/config/training-config.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import { isCovered, isNamed, type ModelSpec } from '../../shared/models/model-spec.js';
import type {
  DenseTensor,
  EmbeddingTable,
  NamedTensors,
} from '../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../shared/tensors/native-rows.js';
import type { OptimizerState, TrainingState } from '../checkpoints/checkpoint-manifest.js';

/** The gradient, or update, of some rows of one table. Every other row is untouched. */
export interface RowGradient {
  /** Ascending and unique. */
  readonly ids: Int32Array;
  /** Row-major `[ids.length, table width]`. */
  readonly values: Float32Array;
}

export interface MetaGradient {
  readonly dense: NamedTensors;
  /** Every table that learns, with or without rows, by feature in the order of the spec. */
  readonly rows: ReadonlyMap<string, RowGradient>;
}

export interface GradientTransformation {
  /** Prefix of the stage's state: `adam` owns `adam.firstMoment/...` and the scalar `adam.…`. */
  readonly stage: string;
  init(params: MetaParameters): OptimizerState;
  /** Returns the new updates and the whole state, with this stage's part replaced. */
  update(
    updates: MetaGradient,
    state: OptimizerState,
    params: MetaParameters,
  ): [MetaGradient, OptimizerState];
}

/** Builds the stages in the order of AdamW: trainable, clipping, ridge, direction, weight decay, rate. */
export function metaOptimizerOf(
  training: TrainingConfig,
  variables: ModelSpec['variables'],
): GradientTransformation {
  const { optimizer, ridge } = training;
  return chain(
    keepTrainable(training.trainable, variables),
    clipByGlobalNorm(training.gradientNormMax),
    ...(ridge === undefined ? [] : [addRidge(ridge, variables)]),
    optimizer.kind === 'adam' ? scaleByAdam(optimizer) : accumulateMomentum(optimizer.momentum),
    addDecoupledWeightDecay(training.weightDecay, variables, training.tableWeightDecay),
    scaleBySchedule(optimizer.rate, training.schedule, training.outerSteps),
  );
}

/** Applies one outer step. Table rows are written in place. */
export function steppedState(
  optimizer: GradientTransformation,
  state: TrainingState,
  gradient: MetaGradient,
): TrainingState {
  const [updates, renewed] = optimizer.update(gradient, state.optimizer, state.metaParameters);
  return {
    ...state,
    outerStep: state.outerStep + 1,
    metaParameters: withUpdates(state.metaParameters, updates),
    optimizer: renewed,
  };
}

/** Adds updates to parameters: dense variables are replaced, touched table rows are written in place. */
function withUpdates({ dense, tables }: MetaParameters, updates: MetaGradient): MetaParameters {
  // Dense tensors are never written to, so one may belong to several states.
  const moved = new Map(dense);
  forEachUpdate(updates, (update, name, isDense) => {
    if (!isDense) {
      const table = tables.get(name);
      if (table !== undefined) addRows(table, update);
      return;
    }
    const tensor = dense.get(name);
    if (tensor === undefined) return;
    const values = tensor.values.slice();
    addRows(asTable({ values }), update);
    moved.set(name, { ...tensor, values });
  });
  return { dense: moved, tables };
}

function addRows({ width, values }: EmbeddingTable, { ids, values: addends }: RowGradient): void {
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.add(values, width, ids, addends);
    return;
  }
  let from = 0;
  for (const id of ids) {
    let to = id * width;
    for (const end = to + width; to < end; to += 1, from += 1)
      values[to] = (values[to] ?? NaN) + (addends[from] ?? NaN);
  }
}

const emptyOptimizerState: OptimizerState = {
  dense: new Map(),
  tables: new Map(),
  scalars: {},
};

/** Returns a zero tensor per variable and a zero table per feature, named `PREFIX/NAME`. */
function zeroSlots(
  prefix: string,
  params: MetaParameters,
): Pick<OptimizerState, 'dense' | 'tables'> {
  const dense = new Map<string, DenseTensor>();
  for (const [name, { shape, values }] of params.dense)
    dense.set(`${prefix}/${name}`, { shape, values: new Float32Array(values.length) });
  const tables = new Map<string, EmbeddingTable>();
  for (const [name, { rowCount, width }] of params.tables) {
    const values = new Float32Array(rowCount * width);
    tables.set(`${prefix}/${name}`, { rowCount, width, values });
  }
  return { dense, tables };
}

export function scalarOf(state: OptimizerState, name: string): number {
  const scalar = state.scalars[name];
  if (scalar === undefined) throw new Error(`the optimizer state has no scalar ${name}`);
  return scalar;
}

const ONLY_ROW = Int32Array.of(0);

/** A dense tensor as a table of one row, so that a stage has one loop for variables and rows. */
function asTable({ values }: Pick<DenseTensor, 'values'>): EmbeddingTable {
  return { rowCount: 1, width: values.length, values };
}

/** Calls with the update of each variable and of each table. The callback may write to its values. */
function forEachUpdate(
  { dense, rows }: MetaGradient,
  change: (update: RowGradient, name: string, isDense: boolean) => void,
): void {
  for (const [name, { values }] of dense) change({ ids: ONLY_ROW, values }, name, true);
  for (const [name, update] of rows) change(update, name, false);
}

/** The variable or table of this name. */
function tableNamed(
  { dense, tables }: Pick<OptimizerState, 'dense' | 'tables'>,
  name: string,
  isDense: boolean,
): EmbeddingTable {
  const tensor = dense.get(name);
  const table = !isDense ? tables.get(name) : tensor && asTable(tensor);
  if (table === undefined) throw new Error(`there is no variable or table ${name}`);
  return table;
}

/** Returns slots to write to, and the dense tensors of the state with those that were asked for as copies. */
function writableSlots(state: OptimizerState): {
  readonly dense: Map<string, DenseTensor>;
  readonly slot: (prefix: string, name: string, isDense: boolean) => EmbeddingTable;
} {
  const dense = new Map(state.dense);
  return {
    dense,
    slot(prefix, name, isDense) {
      const key = `${prefix}/${name}`;
      const tensor = dense.get(key);
      if (isDense && tensor !== undefined)
        dense.set(key, { shape: tensor.shape, values: tensor.values.slice() });
      return tableNamed({ dense, tables: state.tables }, key, isDense);
    },
  };
}

export function chain(...stages: readonly GradientTransformation[]): GradientTransformation {
  const names = stages.map(({ stage }) => stage);
  if (new Set(names).size !== names.length)
    throw new Error(`stages share state when they share a name: ${names.join(', ')}`);
  return {
    stage: 'chain',
    init: (params) =>
      stages.reduce((state, stage) => {
        const { dense, tables, scalars } = stage.init(params);
        return {
          dense: new Map([...state.dense, ...dense]),
          tables: new Map([...state.tables, ...tables]),
          scalars: { ...state.scalars, ...scalars },
        };
      }, emptyOptimizerState),
    update: (updates, state, params) =>
      stages.reduce<ReturnType<GradientTransformation['update']>>(
        ([passed, kept], stage) => stage.update(passed, kept, params),
        [updates, state],
      ),
  };
}

/**
 * Passes on the updates of the named variables, blocks of variables (`layer0` for its weight and
 * bias), tables by feature and, by the name of the method, all variables of the method. The others neither move nor count in the gradient's norm, and their
 * moments stay as they are.
 */
function keepTrainable(
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
  throw errorOf('usage', 'nothing of this name can be trained', {
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

function scaleUpdates(updates: MetaGradient, factor: number): void {
  const native = nativeRows();
  forEachUpdate(updates, ({ values }) => {
    if (native !== null) {
      native.scaleAll(values, factor);
      return;
    }
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
const PLATEAUS = 'schedule.plateaus';
const LATEST_PLATEAU = 0.75;

function scaleBySchedule(
  rate: number,
  schedule: ScheduleConfig,
  outerSteps: number,
): GradientTransformation {
  return {
    stage: 'schedule',
    init: () => ({ ...emptyOptimizerState, scalars: { [STEP]: 0, ...atPlateau(schedule, 0) } }),
    update(updates, state) {
      const outerStep = scalarOf(state, STEP);
      const hasReachedPlateau = (state.scalars[PLATEAUS] ?? 0) > 0;
      const stepSize = rate * rateShareAt(outerStep, schedule, outerSteps, hasReachedPlateau);
      scaleUpdates(updates, -stepSize);
      return [updates, { ...state, scalars: { ...state.scalars, [STEP]: outerStep + 1 } }];
    },
  };
}

/** The state of an optimizer whose validation loss has reached so many plateaus. */
export function afterPlateaus(
  state: OptimizerState,
  schedule: ScheduleConfig,
  plateaus: number,
): OptimizerState {
  const most = Math.max(plateaus, state.scalars[PLATEAUS] ?? 0);
  return { ...state, scalars: { ...state.scalars, ...atPlateau(schedule, most) } };
}

const atPlateau = ({ decay }: ScheduleConfig, plateaus: number): OptimizerState['scalars'] =>
  decay === 'plateau' ? { [PLATEAUS]: plateaus } : {};

/**
 * Returns the share of the rate at outer step 0, 1, ... It rises as (outerStep + 1) /
 * warmupOuterSteps, so that no step has a rate of 0. Then it falls from 1 to `finalShare` at
 * `outerSteps`, linearly or as half a cosine (Loshchilov and Hutter, ICLR 2017), or at once: at a plateau, and at the latest
 * when a quarter of the outer steps is left.
 */
export function rateShareAt(
  outerStep: number,
  { warmupOuterSteps, decay, finalShare }: ScheduleConfig,
  outerSteps: number,
  hasReachedPlateau = false,
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
    case 'plateau':
      return hasReachedPlateau || progress >= LATEST_PLATEAU ? finalShare : 1;
  }
}
