/**
 * The tables of a training state, with the outer step in which each piece last changed. Writers of rows
 * report them first.
 */

import { at, int32At } from '../../shared/base/arrays.js';
import type { EmbeddingTable } from '../../shared/tensors/named-tensors.js';
import { pieceRowCountOf, pieceSpansOf, type PieceSpan } from './table-pieces.js';
import type {
  PieceAnswer,
  PieceDemand,
  PiecePlace,
  SnapshotTable,
  TableRole,
  TableSnapshot,
} from './table-snapshot.js';
import type { TrainingState } from './training-state.js';
import { encodableTensor } from '../../shared/tensors/tensor-codec.js';

interface EncodedPiece {
  /** One tensor `rows` `[rowCount, width]`. */
  readonly bytes: Uint8Array;
  /** A view of its values. */
  readonly values: Float32Array;
}

export class FrozenTable {
  readonly spans: readonly PieceSpan[];
  readonly #table: EmbeddingTable;
  readonly #pieceRowCount: number;
  /** By piece; undefined once the piece was taken or released. */
  readonly #kept: (KeptRows | undefined)[];

  constructor(table: EmbeddingTable, pieceRowCount: number) {
    this.#table = table;
    this.#pieceRowCount = pieceRowCount;
    this.spans = pieceSpansOf(table.rowCount, pieceRowCount);
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

  /** The piece as it was when the table was frozen. Each piece is taken once. */
  take(piece: number): EncodedPiece {
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

/** Rows by feature, each with ascending ids. */
type RowsByFeature = ReadonlyMap<string, { readonly ids: Int32Array }>;

type Tables = ReadonlyMap<string, EmbeddingTable>;

export class TrackedTables {
  readonly #of: object;
  readonly #tracked: Readonly<Record<TableRole, readonly TrackedTable[]>>;
  /** The one that rows are kept for. */
  #snapshot: StateSnapshot | null = null;

  /** @param state its tables were last written in its outer step, or before. */
  constructor(state: TrainingState, pieceByteCountMax?: number) {
    const { outerStep, metaParameters, optimizer } = state;
    this.#of = metaParameters.tables;
    const tracked = (tables: Tables, featureOf: (name: string) => string): TrackedTable[] =>
      [...tables].map(
        ([name, table]) =>
          new TrackedTable({ name, feature: featureOf(name), table, outerStep }, pieceByteCountMax),
      );
    this.#tracked = {
      tables: tracked(metaParameters.tables, (name) => name),
      optimizerTables: tracked(optimizer.tables, (name) => name.slice(name.indexOf('/') + 1)),
    };
  }

  /** Must be called before the outer step that makes `outerStep` writes to these rows. */
  willWriteRows(rows: RowsByFeature, outerStep: number): void {
    for (const table of this.#all()) {
      const ids = rows.get(table.feature)?.ids;
      if (ids === undefined) continue;
      this.#snapshot?.frozen(table)?.keepRows(ids);
      table.markRows(ids, outerStep);
    }
  }

  /** The tables as they are now. The snapshot before is of no use any more. */
  snapshot(): TableSnapshot {
    this.#snapshot = new StateSnapshot(this.#of, this.#tracked);
    return this.#snapshot;
  }

  #all(): TrackedTable[] {
    return [...this.#tracked.tables, ...this.#tracked.optimizerTables];
  }
}

/** A snapshot of tables that may have changed anywhere, and do not change until it is stored. */
export function wholeSnapshotOf(state: TrainingState, pieceByteCountMax?: number): TableSnapshot {
  const snapshot = new TrackedTables(state, pieceByteCountMax).snapshot();
  const { tables, optimizerTables } = snapshot;
  return {
    ...{ of: {}, tables, optimizerTables },
    storePiece: (place, demand) => snapshot.storePiece(place, demand),
  };
}

interface NamedTable {
  readonly name: string;
  readonly feature: string;
  readonly table: EmbeddingTable;
  readonly outerStep: number;
}

class TrackedTable {
  readonly name: string;
  readonly feature: string;
  readonly table: EmbeddingTable;
  readonly pieceRowCount: number;
  /** The outer step that wrote last, by piece. */
  readonly changedIn: Int32Array;

  constructor({ name, feature, table, outerStep }: NamedTable, pieceByteCountMax?: number) {
    this.name = name;
    this.feature = feature;
    this.table = table;
    this.pieceRowCount = pieceRowCountOf(table.width, pieceByteCountMax);
    this.changedIn = new Int32Array(Math.ceil(table.rowCount / this.pieceRowCount)).fill(outerStep);
  }

  markRows(ids: Int32Array, outerStep: number): void {
    for (const id of ids) this.changedIn[Math.floor(id / this.pieceRowCount)] = outerStep;
  }
}

interface FrozenPart extends SnapshotTable {
  readonly tracked: TrackedTable;
  readonly frozen: FrozenTable;
  readonly changedIn: Int32Array;
}

class StateSnapshot implements TableSnapshot {
  readonly of: object;
  readonly tables: readonly FrozenPart[];
  readonly optimizerTables: readonly FrozenPart[];
  readonly #byTable = new Map<TrackedTable, FrozenTable>();

  constructor(of: object, tracked: Readonly<Record<TableRole, readonly TrackedTable[]>>) {
    this.of = of;
    this.tables = tracked.tables.map((table) => this.#freeze(table));
    this.optimizerTables = tracked.optimizerTables.map((table) => this.#freeze(table));
  }

  frozen(table: TrackedTable): FrozenTable | undefined {
    return this.#byTable.get(table);
  }

  async storePiece(
    { role, tableIndex, piece }: PiecePlace,
    { storedAt, wantsValues, put }: PieceDemand,
  ): Promise<PieceAnswer> {
    const { frozen, changedIn } = at(this[role], tableIndex);
    const isUnchanged = storedAt !== null && int32At(changedIn, piece) <= storedAt;
    if (isUnchanged && !wantsValues) {
      frozen.release(piece);
      return { blob: null, values: null };
    }
    const { bytes, values } = frozen.take(piece);
    const blob = isUnchanged ? null : await put(bytes);
    return { blob, values: wantsValues ? values : null };
  }

  #freeze(tracked: TrackedTable): FrozenPart {
    const { name, table, pieceRowCount } = tracked;
    const { rowCount, width } = table;
    const frozen = new FrozenTable(table, pieceRowCount);
    this.#byTable.set(tracked, frozen);
    const { spans } = frozen;
    return { name, rowCount, width, spans, tracked, frozen, changedIn: tracked.changedIn.slice() };
  }
}
