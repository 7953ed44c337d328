/**
 * One stage of the meta-optimizer: a pair of functions on values, after Optax. All state is passed
 * in and returned, so a checkpoint is exactly the state and a resume is bit for bit.
 *
 * Tables are the exception to purity. A table has millions of rows and an outer step touches
 * thousands, so `update` writes the touched rows of state tables in place and returns the same
 * tables. Its cost is proportional to the touched rows. The outer loop owns the state and must not
 * use an old one after an update. Dense tensors and scalars of the state are replaced and never written
 * to.
 *
 * Updates are handed on: a stage may write to those that it is given and return the same arrays, so an
 * outer step allocates nothing for its rows. Nobody else may hold them, and no stage keeps them.
 *
 * A row is touched when it is in a row pack of this outer step. Untouched rows and their state stay
 * as they are.
 */

import type { MetaParameters } from '../../../shared/models/initial-values.js';
import type {
  EmbeddingTable,
  DenseTensor,
  NamedTensors,
} from '../../../shared/tensors/named-tensors.js';
import type { OptimizerState } from '../../checkpoints/training-state.js';

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

export const emptyOptimizerState: OptimizerState = {
  dense: new Map(),
  tables: new Map(),
  scalars: {},
};

/** Returns a zero tensor per variable and a zero table per feature, named `PREFIX/NAME`. */
export function zeroSlots(
  prefix: string,
  params: MetaParameters,
): Pick<OptimizerState, 'dense' | 'tables'> {
  const dense = new Map<string, DenseTensor>();
  for (const [name, { shape, values }] of params.dense)
    dense.set(`${prefix}/${name}`, { shape, values: new Float32Array(values.length) });
  const tables = new Map<string, EmbeddingTable>();
  for (const [name, { rowCount, width }] of params.tables)
    tables.set(`${prefix}/${name}`, {
      rowCount,
      width,
      values: new Float32Array(rowCount * width),
    });
  return { dense, tables };
}

export function slotOf<Slot>(slots: ReadonlyMap<string, Slot>, prefix: string, name: string): Slot {
  const slot = slots.get(`${prefix}/${name}`);
  if (slot === undefined) throw new Error(`the optimizer state has no ${prefix}/${name}`);
  return slot;
}

export function scalarOf(state: OptimizerState, name: string): number {
  const scalar = state.scalars[name];
  if (scalar === undefined) throw new Error(`the optimizer state has no scalar ${name}`);
  return scalar;
}

/** Multiplies every update, dense and rows alike, by a factor, in place. */
export function scaledUpdates(updates: MetaGradient, factor: number): MetaGradient {
  return {
    dense: mapDense(updates.dense, (values) => scaled(values, factor)),
    rows: mapRows(updates.rows, ({ values }) => scaled(values, factor)),
  };
}

/** Uses a plain loop: a callback for each of millions of elements would dominate an outer step. */
function scaled(values: Float32Array, factor: number): Float32Array {
  for (let i = 0; i < values.length; i += 1) values[i] = (values[i] ?? NaN) * factor;
  return values;
}

export function mapDense(
  tensors: NamedTensors,
  values: (values: Float32Array, name: string) => Float32Array,
): NamedTensors {
  return new Map(
    [...tensors].map(([name, tensor]) => [
      name,
      { shape: tensor.shape, values: values(tensor.values, name) },
    ]),
  );
}

export function mapRows(
  rows: ReadonlyMap<string, RowGradient>,
  values: (gradient: RowGradient, name: string) => Float32Array,
): ReadonlyMap<string, RowGradient> {
  return new Map(
    [...rows].map(([name, gradient]) => [
      name,
      { ids: gradient.ids, values: values(gradient, name) },
    ]),
  );
}

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
