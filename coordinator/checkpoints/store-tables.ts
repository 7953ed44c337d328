/**
 * Stores the tables of a snapshot. Pieces that did not change since the last checkpoint are named as there
 * and neither encoded nor hashed, unless the digest needs their values.
 */

import { setImmediate } from 'node:timers/promises';
import { at } from '../../shared/base/arrays.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import { addToHash, type ByteSink } from '../../shared/tensors/sha256.js';
import { tableLine } from '../../shared/models/meta-parameters-digest.js';
import type { CheckpointManifest, StoredTable } from './checkpoint-manifest.js';
import type { PutBlob, SnapshotTable, TableRole, TableSnapshot } from './table-snapshot.js';

/** A checkpoint of the same tables whose pieces may be named again. */
export type EarlierCheckpoint = Pick<CheckpointManifest, 'outerStep' | TableRole>;

interface StoreDemand {
  readonly earlier: EarlierCheckpoint | null;
  readonly put: PutBlob;
  /** Whether a blob of the earlier checkpoint still exists. */
  readonly isThere: (blob: BlobRef) => boolean;
  /** Takes the tables of the meta-parameters as their digest does; null where it needs none. */
  readonly hash: ByteSink | null;
}

export async function storeTables(
  snapshot: TableSnapshot,
  demand: StoreDemand,
): Promise<Pick<CheckpointManifest, TableRole>> {
  return {
    tables: await storeRole('tables', snapshot, demand),
    optimizerTables: await storeRole('optimizerTables', snapshot, { ...demand, hash: null }),
  };
}

/** In order of names, as they are hashed. Returned in order of the snapshot. */
async function storeRole(
  role: TableRole,
  snapshot: TableSnapshot,
  demand: StoreDemand,
): Promise<StoredTable[]> {
  const stored = new Map<SnapshotTable, StoredTable>();
  const inOrder = [...snapshot[role].entries()].sort(([, first], [, second]) =>
    first.name < second.name ? -1 : 1,
  );
  for (const [tableIndex, table] of inOrder)
    stored.set(table, await storeTable({ role, tableIndex, table }, snapshot, demand));
  return snapshot[role].flatMap((table) => stored.get(table) ?? []);
}

interface TablePlace {
  readonly role: TableRole;
  readonly tableIndex: number;
  readonly table: SnapshotTable;
}

async function storeTable(
  { role, tableIndex, table }: TablePlace,
  snapshot: TableSnapshot,
  { earlier, put, isThere, hash }: StoreDemand,
): Promise<StoredTable> {
  const { name, rowCount, width, spans } = table;
  hash?.update(Buffer.from(tableLine(name, rowCount, width)));
  const blobs = blobsInEarlier(earlier?.[role], table).map((blob) =>
    blob !== null && isThere(blob) ? blob : null,
  );
  const pieces: StoredTable['pieces'] = [];
  for (const [piece, span] of spans.entries()) {
    const stored = at(blobs, piece);
    const storedAt = stored === null ? null : (earlier?.outerStep ?? null);
    const { blob, values } = await snapshot.storePiece(
      { role, tableIndex, piece },
      { put, storedAt, wantsValues: hash !== null },
    );
    if (values !== null && hash !== null) addToHash(hash, values);
    const named = blob ?? stored;
    if (named === null) throw new Error(`piece ${piece} of ${name} is in no checkpoint`);
    pieces.push({ ...span, blob: named });
    // Training takes its turn between two pieces.
    await setImmediate();
  }
  return { name, rowCount, width, pieces };
}

/** The blob of each piece in an earlier checkpoint; null where that was divided in another way. */
function blobsInEarlier(
  earlier: readonly StoredTable[] | undefined,
  { name, width, spans }: SnapshotTable,
): (BlobRef | null)[] {
  const found = earlier?.find((table) => table.name === name && table.width === width);
  return spans.map(({ firstRow, rowCount }, piece) => {
    const stored = found?.pieces[piece];
    const isSame = stored?.firstRow === firstRow && stored.rowCount === rowCount;
    return isSame ? stored.blob : null;
  });
}
