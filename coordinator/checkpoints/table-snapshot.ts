/** The tables of a run at one outer step, as a checkpoint stores them: piece by piece, while training goes on. */

import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { PieceSpan } from './table-pieces.js';

export type PutBlob = (bytes: Uint8Array) => Promise<BlobRef>;

/** `tables` are those of the meta-parameters, `optimizerTables` those of the optimizer. */
export type TableRole = 'tables' | 'optimizerTables';

export interface SnapshotTable {
  /** The feature, or `STAGE/FEATURE` for a table of the optimizer. */
  readonly name: string;
  readonly rowCount: number;
  readonly width: number;
  readonly spans: readonly PieceSpan[];
}

export interface PiecePlace {
  readonly role: TableRole;
  /** In the list of tables of the role. */
  readonly tableIndex: number;
  readonly piece: number;
}

export interface PieceDemand {
  /** The outer step of a checkpoint that has the piece, which need not be stored if it did not change since; null without one. */
  readonly storedAt: number | null;
  readonly wantsValues: boolean;
  /** Stores the bytes of a piece. */
  readonly put: PutBlob;
}

export interface PieceAnswer {
  /** Null if the piece did not change. */
  readonly blob: BlobRef | null;
  /** Null unless they are wanted. */
  readonly values: Float32Array | null;
}

export interface TableSnapshot extends Readonly<Record<TableRole, readonly SnapshotTable[]>> {
  /**
   * The same object for all snapshots of tables whose changes were told from one to the next. Pieces of a checkpoint of
   * other tables say nothing about these.
   */
  readonly of: object;
  /** Each piece is asked for once. */
  storePiece(place: PiecePlace, demand: PieceDemand): Promise<PieceAnswer>;
}
