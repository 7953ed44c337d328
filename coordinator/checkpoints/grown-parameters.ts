/**
 * Meta-parameters for a task store whose dictionaries have grown since they were trained. A new value gets
 * a copy of the row of unknown values, under which it was scored before, so that it changes no score until it
 * is trained.
 */

import { UNKNOWN_ID } from '../../shared/features/encoding-rules.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { EmbeddingTable } from '../../shared/tensors/named-tensors.js';
import type { TrainingState } from './training-state.js';

/** @param spec of the grown store; its tables have as many rows as before, or more. */
export function grownParameters(parameters: MetaParameters, spec: ModelSpec): MetaParameters {
  const tables = new Map<string, EmbeddingTable>();
  for (const { name, rowCount } of spec.tables) {
    const table = parameters.tables.get(name);
    if (table === undefined) throw new Error(`there is no table ${name}`);
    const newRows = (): Float32Array => copiesOf(table, UNKNOWN_ID, rowCount - table.rowCount);
    tables.set(name, grownTable(table, rowCount, newRows));
  }
  return { dense: parameters.dense, tables };
}

/**
 * A state of the store before logs were appended, to train on with the store as it is. The optimizer has seen no
 * gradient of new rows: its rows are 0, as they are at the start.
 *
 * @param storeDigest of the store that the state was trained on
 */
export function grownState(
  state: TrainingState,
  storeDigest: string,
  spec: ModelSpec,
): TrainingState {
  // Scores on other rows cannot be compared with those to come.
  const { validated: _, ...others } = state;
  const { outerStep, optimizer, earlierStores = [] } = others;
  const metaParameters = grownParameters(state.metaParameters, spec);
  const tables = new Map<string, EmbeddingTable>();
  for (const [name, table] of optimizer.tables) {
    const grown = metaParameters.tables.get(name.slice(name.indexOf('/') + 1));
    if (grown === undefined) throw new Error(`there is no table for ${name}`);
    const newCount = grown.rowCount - table.rowCount;
    tables.set(
      name,
      grownTable(table, grown.rowCount, () => new Float32Array(newCount * table.width)),
    );
  }
  return {
    ...{ ...others, metaParameters, optimizer: { ...optimizer, tables } },
    earlierStores: [...earlierStores, { outerStep, storeDigest }],
  };
}

/** @param newRows end to end; only asked for if there are some. */
function grownTable(
  table: EmbeddingTable,
  rowCount: number,
  newRows: () => Float32Array,
): EmbeddingTable {
  const { width, rowCount: before } = table;
  if (rowCount === before) return table;
  if (rowCount < before) throw new Error(`a table of ${before} rows has no ${rowCount}`);
  const values = new Float32Array(rowCount * width);
  values.set(table.values);
  values.set(newRows(), before * width);
  return { rowCount, width, values };
}

function copiesOf({ width, values }: EmbeddingTable, row: number, count: number): Float32Array {
  const copies = new Float32Array(count * width);
  const copied = values.subarray(row * width, (row + 1) * width);
  for (let copy = 0; copy < count; copy += 1) copies.set(copied, copy * width);
  return copies;
}
