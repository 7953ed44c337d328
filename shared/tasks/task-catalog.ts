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
  type Data,
  type Vector,
  checkArrowBytes,
} from './arrow-files.js';
import { appendNumber } from './store-manifest.js';
import type { AdgroupSplit, TaskEntry, TaskPlace, TaskSplit } from './task-store.js';

export const ADGROUP_SPLITS: readonly AdgroupSplit[] = ['train', 'validation', 'test'];
export const TASK_SPLITS: readonly TaskSplit[] = [...ADGROUP_SPLITS, 'trunk'];

/** One task. Its index is its place in the list. */
export type CatalogEntry = Omit<TaskEntry, 'taskIndex'>;

/** One task as prepare passes it on. */
export type CatalogTask = CatalogEntry & TaskPlace;

interface TaskCatalog {
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

/** @param places by task. */
export function encodeTaskCatalog(
  tasks: readonly CatalogEntry[],
  places: readonly TaskPlace[],
): Uint8Array {
  const column = { length: tasks.length, nullCount: 0 };
  const int32 = <Of>(from: readonly Of[], pick: (of: Of) => number): Data<Int32> =>
    makeData({
      ...column,
      type: new Int32(),
      data: filled(new Int32Array(from.length), from, pick),
    });
  const columns = {
    key: textColumn(tasks.map(({ key }) => key)),
    split: makeData({
      ...column,
      type: new Uint8(),
      data: filled(new Uint8Array(tasks.length), tasks, ({ split }) => TASK_SPLITS.indexOf(split)),
    }),
    supportRows: int32(tasks, ({ supportRowCount }) => supportRowCount),
    queryRows: int32(tasks, ({ queryRowCount }) => queryRowCount),
    file: int32(places, ({ fileIndex }) => fileIndex),
    batch: int32(places, ({ batchIndex }) => batchIndex),
    offset: int32(places, ({ rowOffset }) => rowOffset),
    ...firstSeenColumn(tasks),
    ...(tasks.some(({ labelIndex }) => labelIndex !== undefined)
      ? { label: int32(tasks, ({ labelIndex }) => labelIndex ?? 0) }
      : {}),
    ...(tasks.some(({ changedIn }) => changedIn !== undefined)
      ? { changedIn: int32(tasks, ({ changedIn }) => changedIn ?? 0) }
      : {}),
  };
  const schema = new Schema(
    Object.entries(columns).map(([name, data]) => new Field(name, data.type, false)),
  );
  const batch = new RecordBatch(
    schema,
    makeData({
      ...column,
      type: new Struct(schema.fields),
      children: Object.values(columns),
    }),
  );
  return tableToIPC(new Table(schema, [batch]), 'file');
}

function firstSeenColumn(tasks: readonly CatalogEntry[]): { firstSeen?: Data<Float64> } {
  if (tasks.some(({ firstSeenTime }) => firstSeenTime === null)) return {};
  const { length } = tasks;
  const times = filled(new Float64Array(length), tasks, ({ firstSeenTime }) => firstSeenTime ?? 0);
  return { firstSeen: makeData({ type: new Float64(), length, nullCount: 0, data: times }) };
}

/** The numbers of up to a million tasks: a loop, since `from` of a typed array is slow. */
function filled<Of, Values extends Int32Array | Uint8Array | Float64Array>(
  values: Values,
  from: readonly Of[],
  pick: (of: Of) => number,
): Values {
  let index = 0;
  for (const of of from) {
    values[index] = pick(of);
    index += 1;
  }
  return values;
}

/** Texts of ASCII, of which a unit is a byte, are encoded together. */
function textColumn(texts: readonly string[]): Data<Utf8> {
  const joined = Buffer.from(texts.join(''));
  const valueOffsets = new Int32Array(texts.length + 1);
  const fillOffsets = (lengthOf: (text: string) => number): number => {
    let end = 0;
    for (const [index, text] of texts.entries()) {
      end += lengthOf(text);
      valueOffsets[index + 1] = end;
    }
    return end;
  };
  const isAscii = fillOffsets(({ length }) => length) === joined.length;
  if (!isAscii) fillOffsets((text) => Buffer.byteLength(text));
  // Halves of a character at the ends of two texts would be joined.
  const data = isAscii ? joined : Buffer.concat(texts.map((text) => Buffer.from(text)));
  return makeData({ type: new Utf8(), length: texts.length, nullCount: 0, valueOffsets, data });
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
      key: at(keys, taskIndex) ?? '',
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

/** Arrow's own reading of a text drops a byte order mark at its start, which is part of the value. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** The texts of a column. Those of ASCII, of which a byte is a unit, are decoded together. */
export function textsOf(column: Vector): (string | null)[] {
  const texts: (string | null)[] = [];
  for (const data of column.data as readonly Data<Utf8>[]) {
    const { length, nullCount, valueOffsets, values } = data;
    const first = numberAt(valueOffsets, 0);
    const bytes = values.subarray(first, numberAt(valueOffsets, length));
    const text = decoder.decode(bytes);
    const isAscii = text.length === bytes.length;
    for (let index = 0; index < length; index += 1) {
      const span = [
        numberAt(valueOffsets, index) - first,
        numberAt(valueOffsets, index + 1) - first,
      ] as const;
      if (nullCount > 0 && !data.getValid(index)) texts.push(null);
      else texts.push(isAscii ? text.slice(...span) : decoder.decode(bytes.subarray(...span)));
    }
  }
  return texts;
}
