/**
 * The Arrow files of a task store: catalog, dictionaries and rows. Without the checks before it, the Arrow
 * library does not return from some damaged files.
 */

import {
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int32,
  Int64,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Table,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
  type Data,
} from 'apache-arrow';
import { checkArrowBytes } from '../../shared/tasks/arrow-files.js';
import { decodeDictionary, taskRowsOf } from '../../shared/tasks/task-store-reader.js';
import { decodeTaskCatalog, encodeTaskCatalog } from '../../shared/tasks/task-catalog.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import type { FuzzTarget } from './fuzz-target.js';
import { mutatedBytes } from './mutations.js';

/** The readers of a store put any error of these parsers into their own. */
const isRefusal = (error: unknown): boolean => error instanceof Error;

function fileOf(columns: Readonly<Record<string, Data>>, length: number): Uint8Array {
  const fields = Object.entries(columns).map(([name, { type }]) => new Field(name, type, false));
  const schema = new Schema(fields);
  const type = new Struct(fields);
  const data = makeData({ type, length, nullCount: 0, children: Object.values(columns) });
  return tableToIPC(new Table(schema, [new RecordBatch(schema, data)]), 'file');
}

const tasks = Array.from({ length: 5 }, (_, index) => ({
  ...{ key: `task${index}`, split: 'train' as const, supportRowCount: 3, queryRowCount: 2 },
  ...{ fileIndex: 0, batchIndex: 0, rowOffset: index * 5, firstSeenTime: index },
}));
const catalog = encodeTaskCatalog(tasks, tasks);

const texts = vectorFromArray([null, 'a', 'münchen', ''], new Utf8());
const dictionary = fileOf({ value: texts.data[0] ?? makeData({ type: new Utf8() }) }, texts.length);

const store = tinyTaskStore({ taskCount: 1, bags: [{ rowCount: 4, lengthMax: 3 }] });
const [task] = store.tasks;
const [rows] = await store.readTasks([0]);
if (task === undefined || rows === undefined) throw new Error('the store has a task');
const { rowCount: length, categoryIds, bagIds, numbers } = rows;
const ints = (data: Int32Array): Data =>
  makeData({ type: new Int32(), length: data.length, nullCount: 0, data });
const floats = (data: Float32Array): Data =>
  makeData({ type: new Float32(), length: data.length, nullCount: 0, data });
const listsOf = (ids: Int32Array): Data =>
  makeData({
    type: new FixedSizeList(3, new Field('item', new Int32(), false)),
    ...{ length, nullCount: 0, child: ints(ids) },
  });
const rowFile = fileOf(
  {
    row: makeData({
      type: new Int64(),
      ...{ length, nullCount: 0, data: BigInt64Array.from(rows.logRows, (row) => BigInt(row)) },
    }),
    time: makeData({ type: new Float64(), length, nullCount: 0, data: rows.times }),
    clicks: floats(rows.clicks),
    impressions: floats(rows.impressions),
    ...Object.fromEntries(categoryIds.map((ids, index) => [`category${index}`, ints(ids)])),
    ...Object.fromEntries(bagIds.map((ids, index) => [`bag${index}`, listsOf(ids)])),
    ...Object.fromEntries(numbers.map((values, index) => [`number${index}`, floats(values)])),
  },
  length,
);

export const ARROW_TARGETS: readonly FuzzTarget[] = [
  {
    ...{ name: 'store-catalog', share: 1, isRefusal },
    inputOf: (stream) => mutatedBytes(stream, catalog),
    parse: (input) => decodeTaskCatalog(input),
  },
  {
    name: 'store-dictionary',
    share: 1,
    inputOf: (stream) => mutatedBytes(stream, dictionary),
    parse: (input) => decodeDictionary(input, 'the input'),
  },
  {
    ...{ name: 'store-rows', share: 1, isRefusal },
    inputOf: (stream) => mutatedBytes(stream, rowFile),
    parse: (input) => {
      checkArrowBytes(input);
      for (const batch of tableFromIPC(input).batches) taskRowsOf(batch, store.manifest, task, 0);
    },
  },
];
