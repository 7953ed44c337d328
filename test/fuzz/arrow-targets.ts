/**
 * The Arrow files of a task store: catalog, dictionaries and rows. Without the checks before it, the Arrow
 * library does not return from some damaged files.
 */

import * as arrow from '../../shared/tasks/arrow-files.js';
import { decodeDictionary, taskRowsOf } from '../../shared/tasks/task-store-reader.js';
import { decodeTaskCatalog, encodeTaskCatalog } from '../../shared/tasks/task-catalog.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import type { FuzzTarget } from './fuzz-target.js';
import { mutatedBytes } from './mutations.js';

/** The readers of a store put any error of these parsers into their own. */
const isRefusal = (error: unknown): boolean => error instanceof Error;

function fileOf(columns: Readonly<Record<string, arrow.Data>>, length: number): Uint8Array {
  const fields = Object.entries(columns).map(
    ([name, { type }]) => new arrow.Field(name, type, false),
  );
  const schema = new arrow.Schema(fields);
  const type = new arrow.Struct(fields);
  const data = arrow.makeData({ type, length, nullCount: 0, children: Object.values(columns) });
  return arrow.tableToIPC(new arrow.Table(schema, [new arrow.RecordBatch(schema, data)]), 'file');
}

const tasks = Array.from({ length: 5 }, (_, index) => ({
  ...{ key: `task${index}`, split: 'train' as const, supportRowCount: 3, queryRowCount: 2 },
  ...{ fileIndex: 0, batchIndex: 0, rowOffset: index * 5, firstSeenTime: index },
}));
const catalog = encodeTaskCatalog(tasks, tasks);

const texts = arrow.vectorFromArray([null, 'a', 'münchen', ''], new arrow.Utf8());
const dictionary = fileOf(
  { value: texts.data[0] ?? arrow.makeData({ type: new arrow.Utf8() }) },
  texts.length,
);

const store = tinyTaskStore({ taskCount: 1, bags: [{ rowCount: 4, lengthMax: 3 }] });
const [task] = store.tasks;
const [rows] = await store.readTasks([0]);
if (task === undefined || rows === undefined) throw new Error('the store has a task');
const { rowCount: length, categoryIds, bagIds, numbers } = rows;
const ints = (data: Int32Array): arrow.Data =>
  arrow.makeData({ type: new arrow.Int32(), length: data.length, nullCount: 0, data });
const floats = (data: Float32Array): arrow.Data =>
  arrow.makeData({ type: new arrow.Float32(), length: data.length, nullCount: 0, data });
const listsOf = (ids: Int32Array): arrow.Data =>
  arrow.makeData({
    type: new arrow.FixedSizeList(3, new arrow.Field('item', new arrow.Int32(), false)),
    ...{ length, nullCount: 0, child: ints(ids) },
  });
const rowFile = fileOf(
  {
    row: arrow.makeData({
      type: new arrow.Int64(),
      ...{ length, nullCount: 0, data: BigInt64Array.from(rows.logRows, (row) => BigInt(row)) },
    }),
    time: arrow.makeData({ type: new arrow.Float64(), length, nullCount: 0, data: rows.times }),
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
      arrow.checkArrowBytes(input);
      for (const batch of arrow.tableFromIPC(input).batches)
        taskRowsOf(batch, store.manifest, task, 0);
    },
  },
];
