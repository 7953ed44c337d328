/**
 * Converts a training state to blobs and back, bit for bit. Dense tensors are in one blob, tables in
 * pieces of rows.
 */

import { float64At } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import type { EmbeddingTable, DenseTensor } from '../../shared/tensors/named-tensors.js';
import {
  decodeTensors,
  encodeTensors,
  type CodedTensor,
} from '../../shared/tensors/tensor-codec.js';
import type { CheckpointManifest, StoredTable } from './checkpoint-manifest.js';
import type { TrainingState } from './training-state.js';

/** The part of a checkpoint to read. `meta` does not read the state of the optimizer. */
export type CheckpointPart = 'all' | 'meta';

/** One tensor each: `meta/NAME`, `optimizer/NAME`, `scalar/NAME`. */
export function encodeDenseState({ metaParameters, optimizer }: TrainingState): Uint8Array {
  const dense = new Map<string, CodedTensor>();
  for (const [name, tensor] of metaParameters.dense) dense.set(`meta/${name}`, tensor);
  for (const [name, tensor] of optimizer.dense) dense.set(`optimizer/${name}`, tensor);
  for (const [name, value] of Object.entries(optimizer.scalars))
    dense.set(`scalar/${name}`, { shape: [], values: Float64Array.of(value) });
  return encodeTensors(dense);
}

/**
 * @throws QianmoError `data` if a blob is damaged or does not fit the manifest; BlobMissingError if one
 *   is gone.
 */
export async function readTensors(
  manifest: CheckpointManifest,
  blobs: BlobStore,
  where: string,
  part: CheckpointPart,
): Promise<TrainingState> {
  const metaDense = new Map<string, DenseTensor>();
  const optimizerDense = new Map<string, DenseTensor>();
  const byRole = new Map([
    ['meta', metaDense],
    ['optimizer', optimizerDense],
  ]);
  const scalars: Record<string, number> = {};
  const coded = decodeTensors(await blobs.get(manifest.dense), where);
  for (const [codedName, { shape, values }] of coded) {
    const [role, name] = splitOnce(codedName);
    if (role === 'scalar' && values instanceof Float64Array) scalars[name] = float64At(values, 0);
    else if (values instanceof Float32Array && byRole.has(role))
      byRole.get(role)?.set(name, { shape, values });
    else throw misfit(where, `a tensor "${codedName}" that belongs to no part of a checkpoint`);
  }
  const isWhole = part === 'all';
  return {
    outerStep: manifest.outerStep,
    metaParameters: {
      dense: metaDense,
      tables: await readTables(manifest.tables, blobs, where),
    },
    optimizer: {
      dense: isWhole ? optimizerDense : new Map(),
      tables: isWhole ? await readTables(manifest.optimizerTables, blobs, where) : new Map(),
      scalars: isWhole ? scalars : {},
    },
    computedOn: manifest.computedOn,
  };
}

async function readTables(
  stored: readonly StoredTable[],
  blobs: BlobStore,
  where: string,
): Promise<Map<string, EmbeddingTable>> {
  const tables = new Map<string, EmbeddingTable>();
  for (const { name, rowCount, width, pieces } of stored) {
    // The manifest may name any number: room is made only for rows that the blobs can hold.
    const byteCount = pieces.reduce((sum, { blob }) => sum + blob.byteCount, 0);
    if (rowCount * width * Float32Array.BYTES_PER_ELEMENT > byteCount)
      throw misfit(
        where,
        `${byteCount} bytes of blobs for table "${name}" [${rowCount}, ${width}]`,
      );
    const values = new Float32Array(rowCount * width);
    let nextRow = 0;
    for (const piece of pieces) {
      const rows = decodeTensors(await blobs.get(piece.blob), where).get('rows');
      const isFitting =
        piece.firstRow === nextRow &&
        rows?.values instanceof Float32Array &&
        rows.shape.join() === `${piece.rowCount},${width}` &&
        nextRow + piece.rowCount <= rowCount;
      if (!isFitting) throw misfit(where, `a piece of table "${name}" that does not fit in`);
      values.set(rows.values, nextRow * width);
      nextRow += piece.rowCount;
    }
    if (nextRow !== rowCount)
      throw misfit(where, `${nextRow} of ${rowCount} rows of table "${name}"`);
    tables.set(name, { rowCount, width, values });
  }
  return tables;
}

function splitOnce(codedName: string): [string, string] {
  const slash = codedName.indexOf('/');
  return [codedName.slice(0, slash), codedName.slice(slash + 1)];
}

function misfit(where: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the tensors of a checkpoint do not fit its manifest',
    where,
    found,
  });
}
