/** A row server in this process: it holds its rows as a training state without dense variables. */

import { at } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { initialRows } from '../../shared/models/initial-values.js';
import { BlobMissingError, blobRefOf, type BlobRef } from '../../shared/storage/blob-store.js';
import { blobKeyOf, ObjectBlobStore } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { gatherRows, type EmbeddingTable } from '../../shared/tensors/embedding-table.js';
import { viewTensors } from '../../shared/tensors/tensor-codec.js';
import type { StoredTable } from '../checkpoints/checkpoint-manifest.js';
import { pieceRowCountOf, type PieceSpan } from '../checkpoints/table-pieces.js';
import type {
  PieceAnswer,
  PieceDemand,
  PiecePlace,
  TableSnapshot,
} from '../checkpoints/table-snapshot.js';
import { TrackedTables } from '../checkpoints/tracked-tables.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import {
  movesUntouchedRows,
  rowStagesOf,
  steppedState,
} from '../training/meta-optimizer/meta-optimizer.js';
import { RowDivision } from './row-division.js';
import type { RowServer, RowServerPlan, RowStep, TablesOfCheckpoint } from './row-server.js';

interface HeldRows {
  state: TrainingState;
  readonly tracked: TrackedTables;
}

export class RowHost implements RowServer {
  readonly #plan: RowServerPlan;
  readonly #store: ObjectStore;
  readonly #blobs: ObjectBlobStore;
  readonly #division: RowDivision;
  readonly #stages: ReturnType<typeof rowStagesOf>;
  #held: HeldRows | null = null;
  #snapshot: TableSnapshot | null = null;
  /** Digests of the blobs that this snapshot has put. */
  #put = new Set<string>();

  /** @param store the store for the checkpoints of the run. */
  constructor(plan: RowServerPlan, store: ObjectStore) {
    this.#plan = plan;
    this.#store = store;
    this.#blobs = new ObjectBlobStore(store);
    const pieceRowCount = pieceRowCountOf(plan.frame.tableRowWidth, plan.pieceByteCountMax);
    this.#division = new RowDivision(plan.serverCount, pieceRowCount);
    // Rows are not variables, so none is part of the trunk.
    this.#stages = rowStagesOf(plan.training, []);
  }

  fresh(seed: number): Promise<void> {
    const { frame, server } = this.#plan;
    const tables = new Map<string, EmbeddingTable>();
    for (const table of frame.tables) {
      const spans = this.#division.spansOf(server, table.rowCount);
      const values = initialRows(frame, table, seed, spans);
      tables.set(table.name, { rowCount: rowCountOf(spans), width: frame.tableRowWidth, values });
    }
    const metaParameters = { dense: new Map(), tables };
    this.#hold({
      ...{ outerStep: 0, metaParameters, computedOn: [] },
      optimizer: this.#stages.init(metaParameters),
    });
    return Promise.resolve();
  }

  async load(checkpoint: TablesOfCheckpoint): Promise<void> {
    // The rows held so far make room.
    this.#held = null;
    const tables = await this.#loadTables(checkpoint.tables);
    this.#hold({
      ...{ outerStep: checkpoint.outerStep, computedOn: [] },
      metaParameters: { dense: new Map(), tables },
      optimizer: {
        dense: new Map(),
        tables: await this.#loadTables(checkpoint.optimizerTables),
        scalars: {},
      },
    });
  }

  gather(ids: readonly Int32Array[]): Promise<Float32Array> {
    const { tables } = this.#demandHeld().state.metaParameters;
    const rowCount = ids.reduce((sum, { length }) => sum + length, 0);
    const rows = new Float32Array(rowCount * this.#plan.frame.tableRowWidth);
    let start = 0;
    let tableIndex = 0;
    for (const table of tables.values()) {
      const own = at(ids, tableIndex);
      gatherRows(table, own, rows, start);
      start += own.length;
      tableIndex += 1;
    }
    return Promise.resolve(rows);
  }

  step({ outerStep, scalars, rows }: RowStep): Promise<void> {
    const held = this.#demandHeld();
    const { state, tracked } = held;
    if (movesUntouchedRows(this.#plan.training)) tracked.willWriteTables(rows, outerStep);
    else tracked.willWriteRows(rows, outerStep);
    const before = { ...state, optimizer: { ...state.optimizer, scalars } };
    held.state = steppedState(this.#stages, before, { dense: new Map(), rows });
    return Promise.resolve();
  }

  freeze(): Promise<void> {
    this.#snapshot = this.#demandHeld().tracked.snapshot();
    this.#put = new Set();
    return Promise.resolve();
  }

  storePiece(place: PiecePlace, demand: Omit<PieceDemand, 'put'>): Promise<PieceAnswer> {
    if (this.#snapshot === null) throw new Error('nothing was frozen');
    return this.#snapshot.storePiece(place, { ...demand, put: (bytes) => this.#putOnce(bytes) });
  }

  close(): Promise<void> {
    this.#held = null;
    return Promise.resolve();
  }

  #hold(state: TrainingState): void {
    this.#held = { state, tracked: new TrackedTables(state, this.#plan.pieceByteCountMax) };
  }

  #demandHeld(): HeldRows {
    if (this.#held === null) throw new Error('the row server holds no rows yet');
    return this.#held;
  }

  async #putOnce(bytes: Uint8Array): Promise<BlobRef> {
    const ref = blobRefOf(bytes);
    if (this.#put.has(ref.sha256)) return ref;
    await this.#blobs.putVerified(bytes, ref);
    this.#put.add(ref.sha256);
    return ref;
  }

  async #loadTables(stored: readonly StoredTable[]): Promise<Map<string, EmbeddingTable>> {
    const tables = new Map<string, EmbeddingTable>();
    for (const table of stored) {
      const spans = this.#division.spansOf(this.#plan.server, table.rowCount);
      const values = await this.#loadRows(table, spans);
      tables.set(table.name, { rowCount: rowCountOf(spans), width: table.width, values });
    }
    return tables;
  }

  /** Reads the pieces with rows of this server, however the checkpoint divides the table. */
  async #loadRows(
    { name, rowCount, width, pieces }: StoredTable,
    spans: readonly PieceSpan[],
  ): Promise<Float32Array> {
    const rows = new Float32Array(rowCountOf(spans) * width);
    let nextRow = 0;
    for (const piece of pieces) {
      if (piece.firstRow !== nextRow) throw this.#misfit(name);
      nextRow += piece.rowCount;
      let start = 0;
      let values: Float32Array | null = null;
      for (const span of spans) {
        const first = Math.max(span.firstRow, piece.firstRow);
        const end = Math.min(span.firstRow + span.rowCount, piece.firstRow + piece.rowCount);
        if (first < end) {
          values ??= await this.#readPiece(name, width, piece);
          const from = (first - piece.firstRow) * width;
          const part = values.subarray(from, from + (end - first) * width);
          rows.set(part, (start + first - span.firstRow) * width);
        }
        start += span.rowCount;
      }
    }
    if (nextRow !== rowCount) throw this.#misfit(name);
    return rows;
  }

  async #readPiece(
    name: string,
    width: number,
    { rowCount, blob }: StoredTable['pieces'][number],
  ): Promise<Float32Array> {
    const where = `${this.#store.address}/${blobKeyOf(blob)}`;
    const bytes = await this.#blobs.get(blob).catch((cause: unknown) => {
      if (!(cause instanceof BlobMissingError)) throw cause;
      throw new QianmoError({ kind: 'data', what: 'the blob is not there', where });
    });
    const rows = viewTensors(bytes, where).get('rows');
    if (rows?.values instanceof Float32Array && rows.shape.join() === `${rowCount},${width}`)
      return rows.values;
    throw this.#misfit(name);
  }

  #misfit(name: string): QianmoError {
    return new QianmoError({
      kind: 'data',
      what: 'the tensors of a checkpoint do not fit its manifest',
      where: this.#store.address,
      found: `pieces of table "${name}" that do not fit together`,
    });
  }
}

function rowCountOf(spans: readonly PieceSpan[]): number {
  return spans.reduce((sum, span) => sum + span.rowCount, 0);
}
