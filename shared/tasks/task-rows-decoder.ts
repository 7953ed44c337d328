/** Reads the rows of one task out of a record batch. */

import { int32At } from '../base/arrays.js';
import type { Data, RecordBatch } from '../formats/arrow.js';
import type { StoreManifest } from './store-manifest.js';
import { labelOf } from './task-label.js';
import type { PlannedRows, TaskEntry, TaskRows } from './task-store.js';

/** The columns of a record batch by use, found by name once for all tasks in it. */
interface BatchColumns {
  readonly rowCount: number;
  readonly categoryIds: readonly Int32Array[];
  readonly bags: readonly { readonly ids: Int32Array; readonly lengthMax: number }[];
  readonly numbers: readonly Float32Array[];
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
  readonly oracle: Float32Array | null;
  readonly times: Float64Array;
  readonly logRows: BigInt64Array;
}

const COLUMNS = new WeakMap<RecordBatch, BatchColumns>();

/**
 * Copies the rows of one task. The copies do not depend on the batch, so they do not keep it in memory.
 *
 * @throws Error if a column is missing or has another type than the manifest says.
 */
export function taskRowsOf(
  batch: RecordBatch,
  manifest: StoreManifest,
  task: TaskEntry,
  rowOffset: number,
): TaskRows {
  const columns = columnsOf(batch, manifest);
  const { taskIndex, supportRowCount } = task;
  const rowCount = supportRowCount + task.queryRowCount;
  const end = endOf(columns, rowOffset, rowCount);
  return {
    ...{ taskIndex, rowCount, supportRowCount },
    loss: labelOf(manifest, task).loss,
    categoryIds: columns.categoryIds.map((ids) => ids.slice(rowOffset, end)),
    bagIds: columns.bags.map(({ ids, lengthMax }) =>
      ids.slice(rowOffset * lengthMax, end * lengthMax),
    ),
    numbers: columns.numbers.map((numbers) => numbers.slice(rowOffset, end)),
    clicks: columns.clicks.slice(rowOffset, end),
    impressions: columns.impressions.slice(rowOffset, end),
    oracle: columns.oracle?.slice(rowOffset, end) ?? null,
    times: columns.times.slice(rowOffset, end),
    logRows: numbersOf(columns.logRows.subarray(rowOffset, end)),
  };
}

/**
 * The rows of one task as views on the batch, which they keep in memory.
 *
 * @throws Error if a column is missing or has another type than the manifest says.
 */
export function taskViewOf(
  batch: RecordBatch,
  manifest: StoreManifest,
  task: TaskEntry,
  rowOffset: number,
): TaskRows {
  const columns = columnsOf(batch, manifest);
  const planned = plannedRowsOf(batch, manifest, task, rowOffset);
  const rowCount = task.supportRowCount + task.queryRowCount;
  const end = rowOffset + rowCount;
  return {
    ...planned,
    rowCount,
    loss: labelOf(manifest, task).loss,
    numbers: columns.numbers.map((numbers) => numbers.subarray(rowOffset, end)),
    clicks: columns.clicks.subarray(rowOffset, end),
    oracle: columns.oracle?.subarray(rowOffset, end) ?? null,
    times: columns.times.subarray(rowOffset, end),
    // Computations hardly ever ask for them.
    get logRows() {
      return numbersOf(columns.logRows.subarray(rowOffset, end));
    },
  };
}

/**
 * The part of one task's rows that planning needs, as views on the batch.
 *
 * @throws Error if a column is missing or has another type than the manifest says.
 */
export function plannedRowsOf(
  batch: RecordBatch,
  manifest: StoreManifest,
  task: TaskEntry,
  rowOffset: number,
): PlannedRows {
  const columns = columnsOf(batch, manifest);
  const { taskIndex, supportRowCount } = task;
  const end = endOf(columns, rowOffset, supportRowCount + task.queryRowCount);
  return {
    ...{ taskIndex, supportRowCount },
    categoryIds: columns.categoryIds.map((ids) => ids.subarray(rowOffset, end)),
    bagIds: columns.bags.map(({ ids, lengthMax }) =>
      ids.subarray(rowOffset * lengthMax, end * lengthMax),
    ),
    impressions: columns.impressions.subarray(rowOffset, end),
  };
}

function columnsOf(batch: RecordBatch, manifest: StoreManifest): BatchColumns {
  const known = COLUMNS.get(batch);
  if (known !== undefined) return known;
  const column = (name: string): Data => {
    const index = batch.schema.fields.findIndex((field) => field.name === name);
    const data = batch.data.children[index];
    if (data === undefined) throw new Error(`there is no column ${name}`);
    return data;
  };
  const floats = (name: string): Float32Array => valuesOf(Float32Array, column(name), name);
  const namesOf = (kind: string): string[] =>
    manifest.features.filter((feature) => feature.kind === kind).map((feature) => feature.name);
  const columns = {
    rowCount: batch.numRows,
    categoryIds: namesOf('category').map((name) => valuesOf(Int32Array, column(name), name)),
    bags: manifest.features.flatMap((feature) => {
      if (feature.kind !== 'bag') return [];
      const { lengthMax, name } = feature;
      const members = column(name).children[0];
      if (members === undefined) throw new Error(`the column ${name} holds no lists`);
      return [{ ids: valuesOf(Int32Array, members, name), lengthMax }];
    }),
    numbers: namesOf('number').map(floats),
    clicks: floats('clicks'),
    impressions: floats('impressions'),
    oracle: manifest.hasOracle ? floats('oracle') : null,
    times: valuesOf(Float64Array, column('time'), 'time'),
    logRows: valuesOf(BigInt64Array, column('row'), 'row'),
  };
  COLUMNS.set(batch, columns);
  return columns;
}

function endOf(columns: BatchColumns, rowOffset: number, rowCount: number): number {
  const end = rowOffset + rowCount;
  if (end > columns.rowCount)
    throw new Error(`the record batch has ${columns.rowCount} rows, the catalog needs ${end}`);
  return end;
}

/** Reads halves of each value, which are no objects. */
function numbersOf(values: BigInt64Array): Float64Array {
  const numbers = new Float64Array(values.length);
  const halves = new Int32Array(values.buffer, values.byteOffset, 2 * values.length);
  for (let place = 0; place < numbers.length; place += 1)
    numbers[place] = int32At(halves, 2 * place + 1) * 2 ** 32 + (int32At(halves, 2 * place) >>> 0);
  return numbers;
}

/** The values of a column, which must be of the given type. */
function valuesOf<Values>(of: new (...args: never) => Values, data: Data, name: string): Values {
  const values: unknown = data.values;
  if (values instanceof of) return values;
  throw new Error(`the column ${name} does not hold ${of.name}`);
}
