/** Copies the rows of one task out of a record batch. The copies do not depend on the batch. */

import type { Data, RecordBatch } from 'apache-arrow';
import type { StoreManifest } from './store-manifest.js';
import { labelOf } from './task-label.js';
import type { TaskEntry, TaskRows } from './task-store.js';

/** @throws Error if a column is missing or has another type than the manifest says. */
export function taskRowsOf(
  batch: RecordBatch,
  manifest: StoreManifest,
  task: TaskEntry,
  rowOffset: number,
): TaskRows {
  const rowCount = task.supportRowCount + task.queryRowCount;
  const end = rowOffset + rowCount;
  if (end > batch.numRows)
    throw new Error(`the record batch has ${batch.numRows} rows, the catalog needs ${end}`);
  const column = (name: string): Data => {
    const index = batch.schema.fields.findIndex((field) => field.name === name);
    const data = batch.data.children[index];
    if (data === undefined) throw new Error(`there is no column ${name}`);
    return data;
  };
  const floats = (name: string): Float32Array => floatsOf(column(name), name).slice(rowOffset, end);
  const features = (kind: string): string[] =>
    manifest.features.filter((feature) => feature.kind === kind).map((feature) => feature.name);
  const times = doublesOf(column('time'), 'time');
  const logRows = bigintsOf(column('row'), 'row').subarray(rowOffset, end);
  return {
    taskIndex: task.taskIndex,
    rowCount,
    supportRowCount: task.supportRowCount,
    loss: labelOf(manifest, task).loss,
    categoryIds: features('category').map((name) =>
      intsOf(column(name), name).slice(rowOffset, end),
    ),
    bagIds: manifest.features.flatMap((feature) => {
      if (feature.kind !== 'bag') return [];
      const members = column(feature.name).children[0];
      if (members === undefined) throw new Error(`the column ${feature.name} holds no lists`);
      const { lengthMax, name } = feature;
      return [intsOf(members, name).slice(rowOffset * lengthMax, end * lengthMax)];
    }),
    numbers: features('number').map(floats),
    clicks: floats('clicks'),
    impressions: floats('impressions'),
    oracle: manifest.hasOracle ? floats('oracle') : null,
    times: times.slice(rowOffset, end),
    logRows: Float64Array.from(logRows, Number),
  };
}

function intsOf(data: Data, name: string): Int32Array {
  const values: unknown = data.values;
  if (values instanceof Int32Array) return values;
  throw new Error(`the column ${name} does not hold int32`);
}

function floatsOf(data: Data, name: string): Float32Array {
  const values: unknown = data.values;
  if (values instanceof Float32Array) return values;
  throw new Error(`the column ${name} does not hold float32`);
}

function doublesOf(data: Data, name: string): Float64Array {
  const values: unknown = data.values;
  if (values instanceof Float64Array) return values;
  throw new Error(`the column ${name} does not hold float64`);
}

function bigintsOf(data: Data, name: string): BigInt64Array {
  const values: unknown = data.values;
  if (values instanceof BigInt64Array) return values;
  throw new Error(`the column ${name} does not hold int64`);
}
