/**
 * A table as it was at one outer step, while training goes on to write to it. Before a row of a piece that
 * has not been taken is written, its values are kept; taking the piece puts them back. So memory follows
 * the rows that are written meanwhile, and not the table.
 */

import { at } from '../../shared/base/arrays.js';
import type { EmbeddingTable } from '../../shared/tensors/embedding-table.js';
import { encodableTensor } from '../../shared/tensors/tensor-codec.js';
import { pieceSpansOf, type PieceSpan } from './table-pieces.js';

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

  /** Must be called before any row may be written. */
  keepAll(): void {
    for (const kept of this.#kept) kept?.keepAll();
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

  keepAll(): void {
    const { firstRow, rowCount } = this.#span;
    for (let id = firstRow; id < firstRow + rowCount; id += 1) this.keep(id);
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
