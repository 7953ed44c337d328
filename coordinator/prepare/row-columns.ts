/** Growing typed columns for the rows of one record batch. They are filled from chunks and reused. */

import { float64At, numberAt, uint8At } from '../../shared/base/arrays.js';

export type ColumnKind = 'int' | 'float' | { readonly bag: number };

/** Reads one value of a chunk's column, or for a bag one place of the row's bag. */
export type ValueOf = (row: number, place: number) => number;

/** Readers of a chunk's columns: the number of the row in the logs, its time and its values. */
export interface ChunkReaders {
  readonly row: ValueOf;
  readonly time: ValueOf;
  readonly values: readonly ValueOf[];
}

interface ValueColumn {
  values: Int32Array | Float32Array;
  readonly width: number;
  readonly isBag: boolean;
}

const ROWS_AT_FIRST = 8192;

export class RowColumns {
  rowCount = 0;
  private capacity = ROWS_AT_FIRST;
  private row = new Float64Array(ROWS_AT_FIRST);
  private role = new Uint8Array(ROWS_AT_FIRST);
  private time = new Float64Array(ROWS_AT_FIRST);
  private readonly columns: ValueColumn[];

  constructor(kinds: readonly ColumnKind[]) {
    this.columns = kinds.map((kind) => {
      const width = typeof kind === 'object' ? kind.bag : 1;
      const values =
        kind === 'float' ? new Float32Array(ROWS_AT_FIRST) : new Int32Array(ROWS_AT_FIRST * width);
      return { values, width, isBag: typeof kind === 'object' };
    });
  }

  /** Copies row `at` of a chunk. */
  push({ row, time, values: valueOf }: ChunkReaders, at: number, role: number): void {
    if (this.rowCount === this.capacity) this.grow();
    const n = this.rowCount;
    this.row[n] = row(at, 0);
    this.time[n] = time(at, 0);
    this.role[n] = role;
    for (let index = 0; index < this.columns.length; index += 1) {
      const column = this.columns[index];
      const read = valueOf[index];
      if (column === undefined || read === undefined) continue;
      const { values, width } = column;
      for (let place = 0; place < width; place += 1) values[n * width + place] = read(at, place);
    }
    this.rowCount = n + 1;
  }

  /** Sorts the rows from `start` on by role, time and row. */
  sortFrom(start: number): void {
    const { row, role, time, rowCount } = this;
    const order = Array.from({ length: rowCount - start }, (_, n) => start + n).sort(
      (a, b) =>
        uint8At(role, a) - uint8At(role, b) ||
        float64At(time, a) - float64At(time, b) ||
        float64At(row, a) - float64At(row, b),
    );
    const permute = (values: Float64Array | Uint8Array | Int32Array | Float32Array, width = 1) => {
      const before = values.slice(start * width, rowCount * width);
      for (const [to, from] of order.entries())
        for (let place = 0; place < width; place += 1)
          values[(start + to) * width + place] = numberAt(before, (from - start) * width + place);
    };
    permute(row);
    permute(role);
    permute(time);
    for (const { values, width } of this.columns) permute(values, width);
  }

  clear(): void {
    this.rowCount = 0;
  }

  rowNumbers(): BigInt64Array {
    return BigInt64Array.from(this.row.subarray(0, this.rowCount), BigInt);
  }

  roles(): Uint8Array {
    return this.role.slice(0, this.rowCount);
  }

  times(): Float64Array {
    return this.time.slice(0, this.rowCount);
  }

  /** Copies of the columns in the order of the kinds. `width` is null for a column of single values. */
  values(): { width: number | null; values: Int32Array | Float32Array }[] {
    return this.columns.map(({ values, width, isBag }) => ({
      width: isBag ? width : null,
      values: values.slice(0, this.rowCount * width),
    }));
  }

  private grow(): void {
    this.capacity *= 2;
    const wider = <Values extends { set(from: Values): void }>(
      from: Values,
      to: Values,
    ): Values => {
      to.set(from);
      return to;
    };
    this.row = wider(this.row, new Float64Array(this.capacity));
    this.time = wider(this.time, new Float64Array(this.capacity));
    this.role = wider(this.role, new Uint8Array(this.capacity));
    for (const column of this.columns)
      column.values =
        column.values instanceof Int32Array
          ? wider(column.values, new Int32Array(this.capacity * column.width))
          : wider(column.values, new Float32Array(this.capacity * column.width));
  }
}
