/**
 * Meta-parameters for a task store whose dictionaries have grown since they were trained. A new value gets
 * a copy of the row of unknown values, under which it was scored before, so that it changes no score until it
 * is trained.
 */

import { UNKNOWN_ID } from '../../shared/features/encoding-rules.js';
import type { EmbeddingTable } from '../../shared/tensors/embedding-table.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';

/** @param spec of the grown store; the tables have as many rows or fewer. */
export function grownParameters(
  parameters: MetaParameters,
  spec: Pick<ModelSpec, 'tables'>,
): MetaParameters {
  const tables = new Map<string, EmbeddingTable>();
  for (const { name, rowCount } of spec.tables) {
    const table = parameters.tables.get(name);
    if (table === undefined) throw new Error(`there is no table ${name}`);
    tables.set(name, grownTable(table, rowCount));
  }
  return { dense: parameters.dense, tables };
}

function grownTable(table: EmbeddingTable, rowCount: number): EmbeddingTable {
  const { width, rowCount: before } = table;
  if (rowCount === before) return table;
  if (rowCount < before) throw new Error(`a table of ${before} rows has no ${rowCount}`);
  const values = new Float32Array(rowCount * width);
  values.set(table.values);
  const unknown = table.values.subarray(UNKNOWN_ID * width, (UNKNOWN_ID + 1) * width);
  for (let row = before; row < rowCount; row += 1) values.set(unknown, row * width);
  return { rowCount, width, values };
}
