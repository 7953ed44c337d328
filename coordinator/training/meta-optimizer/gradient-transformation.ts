/**
 * One stage of the meta-optimizer: a pair of functions on values, after Optax. All state is passed
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

import type { MetaParameters } from '../../../shared/models/meta-parameters.js';
import type {
  EmbeddingTable,
  DenseTensor,
  NamedTensors,
} from '../../../shared/tensors/named-tensors.js';
import type { OptimizerState } from '../../checkpoints/training-state.js';

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
export function asTable({ values }: Pick<DenseTensor, 'values'>): EmbeddingTable {
  return { rowCount: 1, width: values.length, values };
}

/** Calls with the update of each variable and of each table. The callback may write to its values. */
export function forEachUpdate(
  { dense, rows }: MetaGradient,
  change: (update: RowGradient, name: string, isDense: boolean) => void,
): void {
  for (const [name, { values }] of dense) change({ ids: ONLY_ROW, values }, name, true);
  for (const [name, update] of rows) change(update, name, false);
}

/** The variable or table of this name. */
export function tableNamed(
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
export function writableSlots(state: OptimizerState): {
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
