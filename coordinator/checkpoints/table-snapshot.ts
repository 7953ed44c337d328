/**
 * The tables of a run as checkpoints store them: in pieces of whole rows, each stored as one blob, while training goes on.
 * Writers of rows report them first. A snapshot keeps the old values of rows that are written before their piece is
 * stored, and a piece that did not change since the last checkpoint is named as there and not encoded again.
 */

import { setImmediate } from 'node:timers/promises';
import { at, int32At } from '../../shared/base/arrays.js';
import { tableLine } from '../../shared/models/meta-parameters.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { EmbeddingTable } from '../../shared/tensors/named-tensors.js';
import { addToHash } from '../../shared/tensors/sha256.js';
import { encodableTensor } from '../../shared/tensors/tensor-codec.js';
import type { CheckpointManifest, StoredTable, TrainingState } from './checkpoint-manifest.js';

/** Small enough that a few touched rows do not write much, and that encoding does not hold up training. */
const PIECE_BYTE_COUNT_MAX = 8 * 1024 * 1024;

type PutBlob = (bytes: Uint8Array) => Promise<BlobRef>;

/** `tables` are those of the meta-parameters, `optimizerTables` those of the optimizer. */
type TableRole = 'tables' | 'optimizerTables';

/** A checkpoint of the same tables whose pieces may be named again. */
type EarlierCheckpoint = Pick<CheckpointManifest, 'outerStep' | TableRole>;

interface StoreTerms {
  readonly earlier: EarlierCheckpoint | null;
  readonly put: PutBlob;
  /** Tells if a blob of the earlier checkpoint still exists. */
  readonly isThere: (blob: BlobRef) => boolean;
  /** Takes the tables of the meta-parameters as their digest does; null where it needs none. */
  readonly hash: Parameters<typeof addToHash>[0] | null;
}

/** Rows by feature, each with ascending ids. */
type RowsByFeature = ReadonlyMap<string, { readonly ids: Int32Array }>;

interface TrackedTable {
  /** The feature, or `STAGE/FEATURE` for a table of the optimizer. */
  readonly name: string;
  readonly feature: string;
  readonly table: EmbeddingTable;
  /** The number of rows of every piece but the last, at least 1. */
  readonly pieceRowCount: number;
  /** The outer step that wrote last, by piece. */
  readonly changedIn: Int32Array;
}

export class TrackedTables {
  readonly #of: object;
  readonly #tracked: Readonly<Record<TableRole, readonly TrackedTable[]>>;
  /** The one that rows are kept for. */
  #snapshot: TableSnapshot | null = null;

  /** @param state its tables were last written in its outer step, or before. */
  constructor(state: TrainingState, pieceByteCountMax = PIECE_BYTE_COUNT_MAX) {
    const { outerStep, metaParameters, optimizer } = state;
    this.#of = metaParameters.tables;
    const tracked = (tables: ReadonlyMap<string, EmbeddingTable>): TrackedTable[] =>
      [...tables].map(([name, table]) => {
        const rowByteCount = Math.max(1, table.width * Float32Array.BYTES_PER_ELEMENT);
        const pieceRowCount = Math.max(1, Math.floor(pieceByteCountMax / rowByteCount));
        const pieceCount = Math.ceil(table.rowCount / pieceRowCount);
        const changedIn = new Int32Array(pieceCount).fill(outerStep);
        const feature = name.slice(name.indexOf('/') + 1);
        return { name, feature, table, pieceRowCount, changedIn };
      });
    this.#tracked = {
      tables: tracked(metaParameters.tables).map((each) => ({ ...each, feature: each.name })),
      optimizerTables: tracked(optimizer.tables),
    };
  }

  /** Must be called before the outer step that makes `outerStep` writes to these rows. */
  willWriteRows(rows: RowsByFeature, outerStep: number): void {
    for (const tracked of this.#all()) {
      const ids = rows.get(tracked.feature)?.ids;
      if (ids === undefined) continue;
      this.#snapshot?.frozen(tracked)?.keepRows(ids);
      for (const id of ids) tracked.changedIn[Math.floor(id / tracked.pieceRowCount)] = outerStep;
    }
  }

  /** The tables as they are now. The snapshot before is of no use any more. */
  snapshot(of = this.#of): TableSnapshot {
    this.#snapshot = new TableSnapshot(of, this.#tracked);
    return this.#snapshot;
  }

  #all(): TrackedTable[] {
    return [...this.#tracked.tables, ...this.#tracked.optimizerTables];
  }
}

/** A snapshot of tables that may have changed anywhere, and do not change until it is stored. */
export function wholeSnapshotOf(state: TrainingState, pieceByteCountMax?: number): TableSnapshot {
  return new TrackedTables(state, pieceByteCountMax).snapshot({});
}

interface FrozenPart extends TrackedTable {
  readonly tracked: TrackedTable;
  readonly frozen: FrozenTable;
}

/** The tables of a run at one outer step. It is stored once. */
export class TableSnapshot {
  /**
   * The same object for all snapshots of tables whose changes were reported from one to the next. Pieces of a checkpoint
   * of other tables say nothing about these.
   */
  readonly of: object;
  readonly #parts: Readonly<Record<TableRole, readonly FrozenPart[]>>;

  constructor(of: object, tracked: Readonly<Record<TableRole, readonly TrackedTable[]>>) {
    this.of = of;
    const freeze = (table: TrackedTable): FrozenPart => ({
      ...{ ...table, tracked: table, changedIn: table.changedIn.slice() },
      frozen: new FrozenTable(table.table, table.pieceRowCount),
    });
    this.#parts = {
      tables: tracked.tables.map(freeze),
      optimizerTables: tracked.optimizerTables.map(freeze),
    };
  }

  frozen(tracked: TrackedTable): FrozenTable | undefined {
    const { tables, optimizerTables } = this.#parts;
    return [...tables, ...optimizerTables].find((part) => part.tracked === tracked)?.frozen;
  }

  /** Pieces that did not change are neither encoded nor hashed, unless the digest needs their values. */
  async store(terms: StoreTerms): Promise<Pick<CheckpointManifest, TableRole>> {
    return {
      tables: await this.#storeRole('tables', terms),
      optimizerTables: await this.#storeRole('optimizerTables', { ...terms, hash: null }),
    };
  }

  /** In order of names, as they are hashed. Returned in order of the state. */
  async #storeRole(role: TableRole, terms: StoreTerms): Promise<StoredTable[]> {
    const stored = new Map<FrozenPart, StoredTable>();
    const parts = this.#parts[role];
    for (const part of [...parts].sort((a, b) => (a.name < b.name ? -1 : 1)))
      stored.set(part, await storeTable(part, terms.earlier?.[role], terms));
    return parts.flatMap((part) => stored.get(part) ?? []);
  }
}

async function storeTable(
  { name, table: { rowCount, width }, frozen, changedIn }: FrozenPart,
  earlierTables: readonly StoredTable[] | undefined,
  { earlier, put, isThere, hash }: StoreTerms,
): Promise<StoredTable> {
  hash?.update(Buffer.from(tableLine(name, rowCount, width)));
  const found = earlierTables?.find((table) => table.name === name && table.width === width);
  const pieces: StoredTable['pieces'] = [];
  for (const [piece, span] of frozen.spans.entries()) {
    const stored = found?.pieces[piece];
    const isUnchanged =
      stored?.firstRow === span.firstRow &&
      stored.rowCount === span.rowCount &&
      isThere(stored.blob) &&
      int32At(changedIn, piece) <= (earlier?.outerStep ?? -1);
    if (isUnchanged && hash === null) {
      frozen.release(piece);
      pieces.push({ ...span, blob: stored.blob });
    } else {
      const { bytes, values } = frozen.take(piece);
      const blob = isUnchanged ? stored.blob : await put(bytes);
      if (hash !== null) addToHash(hash, values);
      pieces.push({ ...span, blob });
    }
    // Training takes its turn between two pieces.
    await setImmediate();
  }
  return { name, rowCount, width, pieces };
}

interface PieceSpan {
  readonly firstRow: number;
  readonly rowCount: number;
}

class FrozenTable {
  readonly spans: readonly PieceSpan[];
  readonly #table: EmbeddingTable;
  readonly #pieceRowCount: number;
  /** By piece; undefined once the piece was taken or released. */
  readonly #kept: (KeptRows | undefined)[];

  constructor(table: EmbeddingTable, pieceRowCount: number) {
    this.#table = table;
    this.#pieceRowCount = pieceRowCount;
    const { rowCount } = table;
    this.spans = Array.from({ length: Math.ceil(rowCount / pieceRowCount) }, (_, piece) => {
      const firstRow = piece * pieceRowCount;
      return { firstRow, rowCount: Math.min(pieceRowCount, rowCount - firstRow) };
    });
    this.#kept = this.spans.map((span) => new KeptRows(table, span));
  }

  /** Must be called before these rows are written. */
  keepRows(ids: Int32Array): void {
    for (const id of ids) this.#kept[Math.floor(id / this.#pieceRowCount)]?.keep(id);
  }

  /** Nobody takes this piece, so its rows need not be kept. */
  release(piece: number): void {
    this.#kept[piece] = undefined;
  }

  /**
   * The piece as it was when the table was frozen, as one tensor `rows` `[rowCount, width]` with a view of its values. Each
   * piece is taken once.
   */
  take(piece: number): { readonly bytes: Uint8Array; readonly values: Float32Array } {
    const kept = this.#kept[piece];
    if (kept === undefined) throw new Error(`piece ${piece} was taken or released`);
    const { firstRow, rowCount } = at(this.spans, piece);
    const { width, values: all } = this.#table;
    const { bytes, values } = encodableTensor('rows', [rowCount, width]);
    values.set(all.subarray(firstRow * width, (firstRow + rowCount) * width));
    kept.putBack(values);
    this.release(piece);
    return { bytes, values };
  }
}

const KEPT_ROWS_AT_FIRST = 16;

/** Old values of rows of one piece, each kept once. */
class KeptRows {
  readonly #table: EmbeddingTable;
  readonly #span: PieceSpan;
  /** A bit by row of the piece; null until a row is kept. */
  #isKept: Uint8Array | null = null;
  #rows = new Int32Array(0);
  #values = new Float32Array(0);
  #count = 0;

  constructor(table: EmbeddingTable, span: PieceSpan) {
    this.#table = table;
    this.#span = span;
  }

  keep(id: number): void {
    const row = id - this.#span.firstRow;
    const marks = (this.#isKept ??= new Uint8Array(Math.ceil(this.#span.rowCount / 8)));
    const mark = at(marks, row >> 3);
    const bit = 1 << (row & 7);
    if ((mark & bit) !== 0) return;
    marks[row >> 3] = mark | bit;
    const { width, values } = this.#table;
    this.#makeRoom();
    this.#rows[this.#count] = row;
    this.#values.set(values.subarray(id * width, (id + 1) * width), this.#count * width);
    this.#count += 1;
  }

  putBack(target: Float32Array): void {
    const { width } = this.#table;
    for (let place = 0; place < this.#count; place += 1)
      target.set(
        this.#values.subarray(place * width, (place + 1) * width),
        at(this.#rows, place) * width,
      );
  }

  #makeRoom(): void {
    if (this.#count < this.#rows.length) return;
    const { width } = this.#table;
    const rowCount = Math.min(Math.max(KEPT_ROWS_AT_FIRST, 2 * this.#count), this.#span.rowCount);
    const rows = new Int32Array(rowCount);
    rows.set(this.#rows);
    const values = new Float32Array(rowCount * width);
    values.set(this.#values);
    this.#rows = rows;
    this.#values = values;
  }
}
