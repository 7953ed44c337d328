/** Gathers the meta-parameters that a job needs into the bytes that are sent. */

import type { MetaParameters } from '../../shared/models/initial-values.js';
import { frozenVariables, type ModelSpec } from '../../shared/models/model-spec.js';
import type { DenseTensor, NamedTensors } from '../../shared/tensors/named-tensors.js';
import { encodeTensors } from '../../shared/tensors/tensor-codec.js';

/** All dense variables, or the named ones; one encoding serves every job of an outer step. */
export function encodeDense(
  { dense }: Pick<MetaParameters, 'dense'>,
  names?: readonly string[],
): Uint8Array {
  return encodeTensors(
    names === undefined ? dense : new Map(names.map((name) => [name, tensorOf(dense, name)])),
  );
}

/** The inputs that all jobs of a run or of an evaluation share. Workers keep them. */
export interface FrozenInput {
  readonly bytes: Uint8Array;
  /** If so, jobs need no row packs. */
  readonly holdsTables: boolean;
}

/**
 * Encodes the inputs that no outer step of a run changes. Null if nothing is frozen. Tables are held whole if none of them
 * learns and together they have at most `tablesByteCountMax` bytes.
 */
export function encodeFrozen(
  meta: MetaParameters,
  spec: ModelSpec,
  tablesByteCountMax: number,
): FrozenInput | null {
  const names = frozenVariables(spec).map(({ name }) => name);
  const isFrozen = meta.tables.size > 0 && spec.learned.tables.length === 0;
  const holdsTables =
    isFrozen && byteCountOf(meta.tables, spec.tableRowWidth) <= tablesByteCountMax;
  if (names.length === 0 && !holdsTables) return null;
  return frozenInputOf(meta, names, holdsTables ? spec.tableRowWidth : null);
}

/**
 * All dense variables, for jobs between which nothing changes. Tables are held whole if they have at most
 * `tablesByteCountMax` bytes and at most as many rows as the jobs together read. Otherwise jobs have
 * row packs, which are smaller together.
 */
export function encodeUnchanging(
  meta: MetaParameters,
  tableRowWidth: number,
  { tablesByteCountMax, rowsRead }: { tablesByteCountMax: number; rowsRead: number },
): FrozenInput {
  const rowCount = rowCountOf(meta.tables);
  const holdsTables =
    rowCount > 0 &&
    rowCount <= rowsRead &&
    byteCountOf(meta.tables, tableRowWidth) <= tablesByteCountMax;
  return frozenInputOf(meta, [...meta.dense.keys()], holdsTables ? tableRowWidth : null);
}

function rowCountOf(tables: MetaParameters['tables']): number {
  return [...tables.values()].reduce((sum, table) => sum + table.rowCount, 0);
}

function byteCountOf(tables: MetaParameters['tables'], tableRowWidth: number): number {
  return rowCountOf(tables) * tableRowWidth * Float32Array.BYTES_PER_ELEMENT;
}

/** @param tableRowWidth null if the tables are not held. */
function frozenInputOf(
  { dense, tables }: MetaParameters,
  names: readonly string[],
  tableRowWidth: number | null,
): FrozenInput {
  const tensors = new Map(names.map((name) => [name, tensorOf(dense, name)]));
  if (tableRowWidth !== null) {
    const rowCount = rowCountOf(tables);
    const values = new Float32Array(rowCount * tableRowWidth);
    let start = 0;
    for (const table of tables.values()) {
      values.set(table.values, start);
      start += table.values.length;
    }
    tensors.set('rows', { shape: [rowCount, tableRowWidth], values });
  }
  return { bytes: encodeTensors(tensors), holdsTables: tableRowWidth !== null };
}

function tensorOf(dense: NamedTensors, name: string): DenseTensor {
  const tensor = dense.get(name);
  if (tensor === undefined) throw new Error(`the meta-parameters have no ${name}`);
  return tensor;
}
