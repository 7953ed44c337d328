/** Reads rows of a stored table that one row server holds. */

import { QianmoError } from '../../shared/base/errors.js';
import { BlobMissingError } from '../../shared/storage/blob-store.js';
import { blobKeyOf, ObjectBlobStore } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { viewTensors } from '../../shared/tensors/tensor-codec.js';
import type { StoredTable } from '../checkpoints/checkpoint-manifest.js';
import type { PieceSpan } from '../checkpoints/table-pieces.js';

/**
 * The rows of the spans, end to end. Only pieces with such rows are read, however the checkpoint divides the table.
 *
 * @param spans ascending, without overlap.
 * @throws QianmoError `data` if a piece is missing or damaged, or the pieces are not the table.
 */
export async function loadedRows(
  table: StoredTable,
  spans: readonly PieceSpan[],
  store: ObjectStore,
): Promise<Float32Array> {
  const { rowCount, width, pieces } = table;
  const rows = new Float32Array(spans.reduce((sum, span) => sum + span.rowCount, 0) * width);
  let nextRow = 0;
  for (const piece of pieces) {
    if (piece.firstRow !== nextRow) throw misfit(table, store);
    nextRow += piece.rowCount;
    let start = 0;
    let values: Float32Array | null = null;
    for (const span of spans) {
      const first = Math.max(span.firstRow, piece.firstRow);
      const end = Math.min(span.firstRow + span.rowCount, piece.firstRow + piece.rowCount);
      if (first < end) {
        values ??= await readPiece(piece, table, store);
        const from = (first - piece.firstRow) * width;
        const part = values.subarray(from, from + (end - first) * width);
        rows.set(part, (start + first - span.firstRow) * width);
      }
      start += span.rowCount;
    }
  }
  if (nextRow !== rowCount) throw misfit(table, store);
  return rows;
}

async function readPiece(
  { rowCount, blob }: StoredTable['pieces'][number],
  table: StoredTable,
  store: ObjectStore,
): Promise<Float32Array> {
  const where = `${store.address}/${blobKeyOf(blob)}`;
  const bytes = await new ObjectBlobStore(store).get(blob).catch((cause: unknown) => {
    if (!(cause instanceof BlobMissingError)) throw cause;
    throw new QianmoError({ kind: 'data', what: 'the blob is not there', where });
  });
  const rows = viewTensors(bytes, where).get('rows');
  if (rows?.values instanceof Float32Array && rows.shape.join() === `${rowCount},${table.width}`)
    return rows.values;
  throw misfit(table, store);
}

function misfit({ name }: StoredTable, { address }: ObjectStore): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the tensors of a checkpoint do not fit its manifest',
    where: address,
    found: `pieces of table "${name}" that do not fit together`,
  });
}
