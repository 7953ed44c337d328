/** The rows of appended logs, encoded and in memory, by task and in order of time. */

import { at } from '../../../shared/base/arrays.js';
import { interrupted, type DuckSession } from '../../logs/duckdb-session.js';
import {
  columnKinds,
  encodedRowsSql,
  sourceOf,
  tasksOf,
  type AssemblyPlan,
} from '../row-assembly.js';
import { RowColumns, type SourceColumns } from '../row-columns.js';

/** Rows in memory that may be copied one by one. */
export interface RowsInMemory {
  readonly rowCount: number;
  readonly times: Float64Array;
  /** Numbers of the rows in all logs of the store. */
  readonly rows: Float64Array;
  readonly source: SourceColumns;
}

export interface FreshRows extends RowsInMemory {
  /** By task: its first row, and the one behind its last. */
  readonly spans: ReadonlyMap<number, readonly [number, number]>;
}

/** @param firstRow the number of the first row of the logs. */
export async function freshRowsOf(
  plan: Omit<AssemblyPlan, 'placedBySplitFile' | 'keptRows' | 'trunk'>,
  firstRow: number,
  session: DuckSession,
  signal: AbortSignal,
): Promise<FreshRows> {
  const kinds = columnKinds(plan);
  const columns = new RowColumns(kinds);
  const spans = new Map<number, readonly [number, number]>();
  const keptRows = { filter: '', order: 'e.task, e.time, e.row' };
  const sql = encodedRowsSql({ ...plan, keptRows }, 'encodable');
  for await (const chunk of session.chunks(sql, await session.count('encodable'))) {
    if (signal.aborted) throw interrupted();
    const start = columns.rowCount;
    for (const [place, task] of tasksOf(chunk).entries())
      spans.set(task, [spans.get(task)?.[0] ?? start + place, start + place + 1]);
    columns.append(sourceOf(chunk, kinds), 0, chunk.rowCount);
  }
  const rows = Float64Array.from(columns.rowNumbers(), (row) => firstRow + Number(row));
  const values = columns.values().map(({ width, values: of }) => ({ width: width ?? 1, of }));
  return { ...rowsInMemory(rows, columns.times(), values), spans };
}

export function rowsInMemory(
  rows: Float64Array,
  times: Float64Array,
  values: readonly { readonly width: number; readonly of: Int32Array | Float32Array }[],
): RowsInMemory {
  return {
    ...{ rowCount: rows.length, rows, times },
    source: {
      row: copierOf(rows, 1),
      time: copierOf(times, 1),
      values: values.map(({ width, of }) => copierOf(of, width)),
    },
  };
}

function copierOf(
  values: Float64Array | Int32Array | Float32Array,
  width: number,
): SourceColumns['row'] {
  return (to, toRow, from, count) => {
    for (let place = 0; place < count * width; place += 1)
      to[toRow * width + place] = at<number>(values, from * width + place);
  };
}
