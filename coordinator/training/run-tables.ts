/** The embedding tables of a run, in this process: gathered into row packs, stepped, and frozen for checkpoints. */

import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { encodeRowPack, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import { type TableSnapshot, TrackedTables } from '../checkpoints/table-snapshot.js';
import type { TrainingState } from '../checkpoints/checkpoint-manifest.js';
import {
  type MetaGradient,
  type RowGradient,
  metaOptimizerOf,
  steppedState,
} from './meta-optimizer.js';
import { copyUnknownRow, type MetaParameters } from '../../shared/models/meta-parameters.js';
import type { EmbeddingTable } from '../../shared/tensors/named-tensors.js';

export interface RunTables {
  /** Encodes the row pack of a job. To be called before the next step. */
  encodePack(layout: RowPackLayout): Uint8Array;
  /** Applies one outer step to dense variables and rows. It may write to the gradient. */
  step(state: TrainingState, gradient: MetaGradient): TrainingState;
  /** Takes the values of an earlier state over. The optimizer's stay as they are. */
  goBackTo(earlier: MetaParameters, state: TrainingState): TrainingState;
  /** The tables as they are now. It ends the use of an earlier snapshot. */
  snapshot(): TableSnapshot;
}

/** The tables of the state that a training starts from. Steps write to them in place. */
export function runTables(
  start: TrainingState,
  spec: ModelSpec,
  training: TrainingConfig,
): RunTables {
  const { tables } = start.metaParameters;
  const tracked = new TrackedTables(start);
  const optimizer = metaOptimizerOf(training, spec.variables);
  const copies = unknownCopiesOf(spec);
  return {
    encodePack: (layout) => encodeRowPack(tables, layout, spec.tableRowWidth),
    step(state, unshared) {
      const outerStep = state.outerStep + 1;
      const gradient = withSharedUnknown(unshared, copies);
      const { rows } = gradient;
      tracked.willWriteRows(writtenRowsOf(rows, copies), outerStep);
      const stepped = steppedState(optimizer, state, gradient);
      copyUnknownRows(stepped.metaParameters.tables, rows, copies);
      return stepped;
    },
    goBackTo(earlier, state) {
      const everyRow = [...tables].map(([name, { rowCount }]): [string, { ids: Int32Array }] => [
        name,
        { ids: Int32Array.from({ length: rowCount }, (_, row) => row) },
      ]);
      tracked.willWriteRows(new Map(everyRow), state.outerStep);
      for (const [name, { values }] of tables) {
        const found = earlier.tables.get(name);
        if (found === undefined) throw new Error(`the earlier state has no table ${name}`);
        values.set(found.values);
      }
      return { ...state, metaParameters: { ...state.metaParameters, dense: earlier.dense } };
    },
    snapshot: () => tracked.snapshot(),
  };
}

/**
 * Keeps the rows of unseen values equal to the row of unknown values while tables are trained: what they learn is
 * added to what that row learns, and the row is copied to them after each outer step that moves it.
 */

type Rows = MetaGradient['rows'];

/** By table, the last of the rows that are copies of row 0. */
type UnknownCopies = ReadonlyMap<string, number>;

function unknownCopiesOf({ tables }: Pick<ModelSpec, 'tables'>): UnknownCopies {
  return new Map(
    tables.flatMap(({ name, unknownCopyCount }) =>
      unknownCopyCount === undefined ? [] : [[name, unknownCopyCount] as const],
    ),
  );
}

/** The gradient with that of the copies added to that of row 0. */
function withSharedUnknown(gradient: MetaGradient, copies: UnknownCopies): MetaGradient {
  if (copies.size === 0) return gradient;
  const rows = new Map(
    [...gradient.rows].map(([name, of]): [string, RowGradient] => [
      name,
      sharedUnknown(of, copies.get(name) ?? 0),
    ]),
  );
  return { ...gradient, rows };
}

function sharedUnknown(gradient: RowGradient, lastCopy: number): RowGradient {
  const { ids, values } = gradient;
  const first = ids.findIndex((id) => id > lastCopy);
  const sharedCount = first < 0 ? ids.length : first;
  if (sharedCount === 0 || (sharedCount === 1 && ids[0] === 0)) return gradient;
  const width = values.length / ids.length;
  const rest = ids.subarray(sharedCount);
  const sums = new Float64Array(width);
  for (let place = 0; place < sharedCount * width; place += 1)
    sums[place % width] = (sums[place % width] ?? NaN) + (values[place] ?? NaN);
  const shared = new Float32Array((1 + rest.length) * width);
  shared.set(sums);
  shared.set(values.subarray(sharedCount * width), width);
  return { ids: Int32Array.of(0, ...rest), values: shared };
}

/** The rows that an outer step writes to: those of its gradient, and the copies of each row 0 among them. */
function writtenRowsOf(rows: Rows, copies: UnknownCopies): Map<string, { ids: Int32Array }> {
  return new Map(
    [...rows].map(([name, { ids }]) => {
      const count = copies.get(name) ?? 0;
      if (count === 0 || ids[0] !== 0) return [name, { ids }];
      const written = new Int32Array(ids.length + count);
      for (let row = 0; row <= count; row += 1) written[row] = row;
      written.set(ids.subarray(1), count + 1);
      return [name, { ids: written }];
    }),
  );
}

function copyUnknownRows(
  tables: ReadonlyMap<string, EmbeddingTable>,
  rows: Rows,
  copies: UnknownCopies,
): void {
  for (const [name, count] of copies) {
    const table = tables.get(name);
    if (table !== undefined && rows.has(name)) copyUnknownRow(table, count);
  }
}
