/**
 * The catalog of a task store, `tasks.arrow`: one row per task, with the place of the task's rows.
 *
 * Columns: `key` utf8, `split` uint8 (0 train, 1 validation, 2 test, 3 trunk), `supportRows` int32,
 * `queryRows` int32, `file` int32 (number of `rows-NNNNN.arrow`), `batch` int32 (record batch
 * within the file), `offset` int32 (first row within the batch), `firstSeen` float64 (time of the
 * task's first row in the logs; 0 without a time column); in a store whose manifest lists labels also
 * `label` int32 (place in that list); and after logs were appended `changedIn` int32 (the append, from 1,
 * that last brought rows of the task; 0 if none did). Earlier stores have no `firstSeen`.
 */

import { at, numberAt } from '../base/arrays.js';
import {
  Float64,
  Int32,
  makeData,
  RecordBatch,
  Schema,
  Field,
  Struct,
  Table,
  tableFromIPC,
  tableToIPC,
  Uint8,
  Utf8,
  vectorFromArray,
  type Data,
  type Vector,
} from '../formats/arrow.js';
import { checkArrowBytes } from './arrow-check.js';
import { appendNumber } from './store-manifest.js';
import type { AdgroupSplit, TaskEntry, TaskPlace, TaskSplit } from './task-store.js';

export const ADGROUP_SPLITS: readonly AdgroupSplit[] = ['train', 'validation', 'test'];
export const TASK_SPLITS: readonly TaskSplit[] = [...ADGROUP_SPLITS, 'trunk'];

/** One task as prepare passes it on. Its index is its place in the list. */
export type CatalogTask = Omit<TaskEntry, 'taskIndex'> & TaskPlace;

export interface TaskCatalog {
  readonly tasks: readonly TaskEntry[];
  readonly places: readonly TaskPlace[];
}

export function rowsFileOf(fileIndex: number): string {
  return `rows-${String(fileIndex).padStart(5, '0')}.arrow`;
}

/**
 * File of a feature's dictionary within the store; odd characters are percent-encoded.
 *
 * @param append from 1: the file of the values that it brought.
 */
export function dictionaryFileOf(featureName: string, append = 0): string {
  const folder = append === 0 ? '' : `${appendNumber(append)}/`;
  return `dictionaries/${folder}${encodeURIComponent(featureName)}.arrow`;
}

export function encodeTaskCatalog(tasks: readonly CatalogTask[]): Uint8Array {
  const int32 = (pick: (task: CatalogTask) => number) =>
    makeData({
      type: new Int32(),
      length: tasks.length,
      nullCount: 0,
      data: Int32Array.from(tasks, pick),
    });
  const keys = vectorFromArray(
    tasks.map((task) => task.key),
    new Utf8(),
  );
  const columns = {
    key: keys.data[0] ?? makeData({ type: new Utf8() }),
    split: makeData({
      type: new Uint8(),
      length: tasks.length,
      nullCount: 0,
      data: Uint8Array.from(tasks, (task) => TASK_SPLITS.indexOf(task.split)),
    }),
    supportRows: int32((task) => task.supportRowCount),
    queryRows: int32((task) => task.queryRowCount),
    file: int32((task) => task.fileIndex),
    batch: int32((task) => task.batchIndex),
    offset: int32((task) => task.rowOffset),
    ...firstSeenColumn(tasks),
    ...(tasks.some(({ labelIndex }) => labelIndex !== undefined)
      ? { label: int32(({ labelIndex }) => labelIndex ?? 0) }
      : {}),
    ...(tasks.some(({ changedIn }) => changedIn !== undefined)
      ? { changedIn: int32(({ changedIn }) => changedIn ?? 0) }
      : {}),
  };
  const schema = new Schema(
    Object.entries(columns).map(([name, data]) => new Field(name, data.type, false)),
  );
  const batch = new RecordBatch(
    schema,
    makeData({
      type: new Struct(schema.fields),
      length: tasks.length,
      nullCount: 0,
      children: Object.values(columns),
    }),
  );
  return tableToIPC(new Table(schema, [batch]), 'file');
}

function firstSeenColumn(tasks: readonly CatalogTask[]): { firstSeen?: Data<Float64> } {
  const times = tasks.flatMap(({ firstSeenTime }) => firstSeenTime ?? []);
  if (times.length < tasks.length) return {};
  const data = Float64Array.from(times);
  return {
    firstSeen: makeData({ type: new Float64(), length: data.length, nullCount: 0, data }),
  };
}

/** @throws Error if the bytes are not a catalog; the reader adds which store. */
export function decodeTaskCatalog(bytes: Uint8Array): TaskCatalog {
  checkArrowBytes(bytes);
  const table = tableFromIPC(bytes);
  const column = (name: string) => {
    const found = table.getChild(name);
    if (found === null) throw new Error(`the catalog has no column ${name}`);
    return found;
  };
  const numbers = (name: string): ArrayLike<number> => {
    const values: unknown = column(name).toArray();
    return isNumbers(values) ? values : Array.from(values as Iterable<unknown>, Number);
  };
  const optional = (name: string) => (table.getChild(name) === null ? null : numbers(name));
  const keys = textsOf(column('key'));
  const split = numbers('split');
  const supportRows = numbers('supportRows');
  const queryRows = numbers('queryRows');
  const file = numbers('file');
  const batch = numbers('batch');
  const offset = numbers('offset');
  const firstSeen = optional('firstSeen');
  const label = optional('label');
  const changedIn = optional('changedIn');
  const tasks: TaskEntry[] = [];
  const places: TaskPlace[] = [];
  for (let taskIndex = 0; taskIndex < table.numRows; taskIndex += 1) {
    // Set one by one: a million spreads take a second.
    const task: { -readonly [Name in keyof TaskEntry]: TaskEntry[Name] } = {
      taskIndex,
      key: at(keys, taskIndex),
      split: at(TASK_SPLITS, numberAt(split, taskIndex)),
      supportRowCount: numberAt(supportRows, taskIndex),
      queryRowCount: numberAt(queryRows, taskIndex),
      firstSeenTime: firstSeen === null ? null : numberAt(firstSeen, taskIndex),
    };
    if (label !== null) task.labelIndex = numberAt(label, taskIndex);
    if (changedIn !== null) task.changedIn = numberAt(changedIn, taskIndex);
    tasks.push(task);
    places.push({
      fileIndex: numberAt(file, taskIndex),
      batchIndex: numberAt(batch, taskIndex),
      rowOffset: numberAt(offset, taskIndex),
    });
  }
  return { tasks, places };
}

function isNumbers(values: unknown): values is Int32Array | Uint8Array | Float64Array {
  return (
    values instanceof Int32Array || values instanceof Uint8Array || values instanceof Float64Array
  );
}

/** The texts of a column. Those of ASCII, of which a byte is a unit, are decoded together. */
function textsOf(column: Vector): string[] {
  const texts: string[] = [];
  for (const { length, valueOffsets, values } of column.data as readonly Data<Utf8>[]) {
    const bytes = values.subarray(numberAt(valueOffsets, 0), numberAt(valueOffsets, length));
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
    if (text.length < bytes.length)
      return Array.from({ length: column.length }, (_, index) => String(column.get(index)));
    const first = numberAt(valueOffsets, 0);
    for (let index = 0; index < length; index += 1)
      texts.push(
        text.slice(
          numberAt(valueOffsets, index) - first,
          numberAt(valueOffsets, index + 1) - first,
        ),
      );
  }
  return texts;
}
