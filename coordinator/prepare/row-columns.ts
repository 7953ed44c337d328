/** Growing typed columns for the rows of one record batch. They are filled from chunks and reused. */

import { at, float64At, numberAt, uint8At } from '../../shared/base/arrays.js';

export type ColumnKind = 'int' | 'float' | { readonly bag: number };

/**
 * Copies `count` rows of a source column, from row `from` on, to the rows from `toRow` on. The array holds as
 * many numbers a row as the column does.
 */
export type CopyRows = (
  to: Float64Array | Int32Array | Float32Array,
  toRow: number,
  from: number,
  count: number,
) => void;

/** The columns of rows to append: their numbers in the logs, their times and their values. */
export interface SourceColumns {
  readonly row: CopyRows;
  readonly time: CopyRows;
  readonly values: readonly CopyRows[];
}

interface ValueColumn {
  values: Int32Array | Float32Array;
  readonly width: number;
  readonly isBag: boolean;
}

/** The numbers that a row has in a column. */
export function widthOf(kind: ColumnKind): number {
  return typeof kind === 'object' ? kind.bag : 1;
}

const ROWS_AT_FIRST = 8192;
const HALF_RANGE = 2 ** 32;

export class RowColumns {
  rowCount = 0;
  private capacity = ROWS_AT_FIRST;
  private row = new Float64Array(ROWS_AT_FIRST);
  private role = new Uint8Array(ROWS_AT_FIRST);
  private time = new Float64Array(ROWS_AT_FIRST);
  private readonly columns: ValueColumn[];

  constructor(kinds: readonly ColumnKind[]) {
    this.columns = kinds.map((kind) => {
      const width = widthOf(kind);
      const values =
        kind === 'float' ? new Float32Array(ROWS_AT_FIRST) : new Int32Array(ROWS_AT_FIRST * width);
      return { values, width, isBag: typeof kind === 'object' };
    });
  }

  /** Appends `count` rows of the source, from its row `from` on. Their roles are set later. */
  append(source: SourceColumns, from: number, count: number): void {
    while (this.rowCount + count > this.capacity) this.grow();
    const toRow = this.rowCount;
    source.row(this.row, toRow, from, count);
    source.time(this.time, toRow, from, count);
    for (const [index, { values }] of this.columns.entries())
      at(source.values, index)(values, toRow, from, count);
    this.rowCount = toRow + count;
  }

  /** Makes the rows from `start` on a task: the first `supportRowCount` of them are support rows. */
  setRolesFrom(start: number, supportRowCount: number): void {
    this.role.fill(0, start, start + supportRowCount);
    this.role.fill(1, start + supportRowCount, this.rowCount);
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
    // As two halves of 32 bits: a conversion of each number to a bigint takes longer than all other columns.
    const halves = new Uint32Array(2 * this.rowCount);
    for (let n = 0; n < this.rowCount; n += 1) {
      const row = float64At(this.row, n);
      halves[2 * n] = row % HALF_RANGE;
      halves[2 * n + 1] = row / HALF_RANGE;
    }
    return new BigInt64Array(halves.buffer);
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
