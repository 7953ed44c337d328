/** A row server in this process: it holds its rows as a training state without dense variables. */

import { at } from '../../shared/base/arrays.js';
import { initialRows } from '../../shared/models/initial-values.js';
import { blobRefOf, type BlobRef } from '../../shared/storage/blob-store.js';
import { ObjectBlobStore } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { gatherRows, type EmbeddingTable } from '../../shared/tensors/embedding-table.js';
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
import { loadedRows } from './load-rows.js';
import { RowDivision } from './row-division.js';
import type {
  RowServer,
  RowServerPlan,
  RowStep,
  StartTables,
  TablesOfCheckpoint,
} from './row-server.js';

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

  readonly #openStore: (address: string) => ObjectStore;

  /**
   * @param store the store for the checkpoints of the run.
   * @param openStore opens that of another run.
   */
  constructor(
    plan: RowServerPlan,
    store: ObjectStore,
    openStore: (address: string) => ObjectStore,
  ) {
    this.#plan = plan;
    this.#store = store;
    this.#openStore = openStore;
    this.#blobs = new ObjectBlobStore(store);
    const pieceRowCount = pieceRowCountOf(plan.frame.tableRowWidth, plan.pieceByteCountMax);
    this.#division = new RowDivision(plan.serverCount, pieceRowCount);
    // Rows are not variables, so none is part of the trunk.
    this.#stages = rowStagesOf(plan.training, []);
  }

  async fresh(seed: number, from?: StartTables): Promise<void> {
    const { frame, server } = this.#plan;
    const other = from === undefined ? this.#store : this.#openStore(from.address);
    const tables = new Map<string, EmbeddingTable>();
    for (const table of frame.tables) {
      const spans = this.#division.spansOf(server, table.rowCount);
      const stored = from?.tables.find(({ name }) => name === table.name);
      const values =
        stored === undefined
          ? initialRows(frame, table, seed, spans)
          : await loadedRows(stored, spans, other);
      tables.set(table.name, { rowCount: rowCountOf(spans), width: frame.tableRowWidth, values });
    }
    const metaParameters = { dense: new Map(), tables };
    this.#hold({
      ...{ outerStep: 0, metaParameters, computedOn: [] },
      optimizer: this.#stages.init(metaParameters),
    });
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
      const values = await loadedRows(table, spans, this.#store);
      tables.set(table.name, { rowCount: rowCountOf(spans), width: table.width, values });
    }
    return tables;
  }
}

function rowCountOf(spans: readonly PieceSpan[]): number {
  return spans.reduce((sum, span) => sum + span.rowCount, 0);
}
