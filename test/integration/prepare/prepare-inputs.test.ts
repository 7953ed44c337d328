// Every input format, compression and arrangement of files gives the same store.
import { describe, expect, test } from 'vitest';
import { execFileSync } from 'node:child_process';
import { mkdir, symlink } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { StoreManifest } from '../../../shared/tasks/store-manifest.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { runInDuckDb } from '../../fixtures/duckdb-for-test.js';

const room = roomOfEachTest();

const ROWS = Array.from({ length: 60 }, (_, n) => ({
  ad: `ad${n % 7}`,
  site: ['news', 'a, "quoted" shop', 'game'][n % 3]!,
  tags: ['x', 'y', 'z'].slice(0, n % 4).join('|'),
  price: n % 5 === 0 ? '' : String((n * 37) % 11),
  at: 1000 + ((n * 13) % 60),
  clicked: n % 4 === 0 ? 1 : 0,
}));
const FEATURES = [
  { name: 'site', kind: 'category' },
  { name: 'tags', kind: 'bag', lengthMax: 2 },
  { name: 'price', kind: 'number', missing: 0 },
];
const SPLIT = {
  features: FEATURES,
  time: 'at',
  rowSplit: { by: 'time' },
  taskSplit: { by: 'hash', validationShare: 0.2, testShare: 0.2 },
};

function delimited(rows: typeof ROWS, separator: string): string {
  const quote = (value: unknown): string =>
    /[",\t]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const names = Object.keys(ROWS[0]!);
  return [names, ...rows.map((row) => Object.values(row).map(quote))]
    .map((fields) => `${fields.join(separator)}\n`)
    .join('');
}

const jsonLines = (rows: typeof ROWS): string =>
  rows
    .map(
      (row) =>
        `${JSON.stringify({ ...row, price: row.price === '' ? null : Number(row.price), tags: row.tags.split('|') })}\n`,
    )
    .join('');

/** Without the description of the inputs, and the types of columns, which a Parquet log has of its own. */
function contentOf({ sourceDigest: _, files, ...content }: StoreManifest): unknown {
  return { ...content, files: files.filter(({ name }) => name !== 'columns.json') };
}

async function reference(): Promise<unknown> {
  await room.write('reference.csv', delimited(ROWS, ','));
  const config = { ...SPLIT, logs: room.path('reference.csv'), store: room.path('reference') };
  return contentOf(await room.prepare(room.config(config)));
}

describe('formats', () => {
  const csv = (): string => delimited(ROWS, ',');
  const tsv = (): string => delimited(ROWS, '\t');
  const cases: [string, () => Promise<unknown>][] = [
    ['log.tsv', () => room.write('log.tsv', tsv())],
    ['log.jsonl', () => room.write('log.jsonl', jsonLines(ROWS))],
    ['log.csv.gz', () => room.write('log.csv.gz', gzipSync(csv()))],
    ['log.jsonl.gz', () => room.write('log.jsonl.gz', gzipSync(jsonLines(ROWS)))],
    ['log.csv.xz', () => room.write('log.csv.xz', execFileSync('xz', { input: csv() }))],
    ['log.tsv.bz2', () => room.write('log.tsv.bz2', execFileSync('bzip2', { input: tsv() }))],
    [
      'log.csv.zst',
      async () => {
        await room.write('log.csv', csv());
        await runInDuckDb(
          `COPY (SELECT * FROM read_csv('${room.path('log.csv')}', all_varchar = true))
            TO '${room.path('log.csv.zst')}' (FORMAT csv, HEADER, COMPRESSION zstd)`,
        );
      },
    ],
    [
      'log.parquet',
      async () => {
        await room.write('log.csv', csv());
        await runInDuckDb(
          `COPY (SELECT ad, site, string_split(tags, '|') AS tags, price::DOUBLE AS price,
              to_timestamp("at")::TIMESTAMP AS "at", clicked = 1 AS clicked
            FROM read_csv('${room.path('log.csv')}')) TO '${room.path('log.parquet')}' (ROW_GROUP_SIZE 7)`,
        );
      },
    ],
  ];
  test.each(cases)('%s', async (name, write) => {
    await write();
    const manifest = await room.prepare(room.config({ ...SPLIT, logs: room.path(name) }));
    expect(contentOf(manifest)).toEqual(await reference());
  });
});

test('the folder "logs [old]" gives the store of its files', async () => {
  await mkdir(room.path('logs [old]'));
  await room.write('logs [old]/log.csv', delimited(ROWS, ','));
  const config = room.config({ ...SPLIT, logs: room.path('logs [old]') });
  expect(contentOf(await room.prepare(config))).toEqual(await reference());
});

test('several files, matched by a glob, give the store of one', async () => {
  await room.write('part-1.csv', delimited(ROWS.slice(0, 11), ','));
  await room.write('part-2.csv', delimited(ROWS.slice(11, 12), ','));
  await room.write('part-3.csv', delimited(ROWS.slice(12), ','));
  const config = room.config({ ...SPLIT, logs: room.path('part-*.csv') });
  expect(contentOf(await room.prepare(config))).toEqual(await reference());
});

test('a file that several patterns name, however its path is written, is read once', async () => {
  await mkdir(room.path('day'));
  await room.write('day/part.csv', delimited(ROWS, ','));
  await symlink('part.csv', room.path('day/latest.csv'));
  const logs = ['day/', 'day/part.csv', 'day/./part.csv', 'day//*.csv', 'day/latest.csv'].map(
    (name) => `${room.folder}/${name}`,
  );
  const config = room.config({
    ...SPLIT,
    logs: [...logs, pathToFileURL(room.path('day/part.csv')).href],
  });
  expect(contentOf(await room.prepare(config))).toEqual(await reference());
});

test('logs on an object store are fetched once for calls that share a folder', async () => {
  const bucket = new MemoryObjectStore('s3://logs/day');
  const options = { objectStoreOf: () => bucket, logsFolder: room.path('fetched') };
  const config = room.config({ ...SPLIT, logs: 's3://logs/day/a.csv' });
  await bucket.put('a.csv', Buffer.from(delimited(ROWS, ',')), { kind: 'always' });
  const first = contentOf(await room.prepare(config, options));
  await bucket.put('a.csv', Buffer.from('changed'), { kind: 'always' });
  expect(contentOf(await room.prepare(config, { ...options, force: true }))).toEqual(first);
});

test('logs and store on an object store', async () => {
  const stores = new Map<string, ObjectStore>();
  const objectStoreOf = (address: string): ObjectStore => {
    const store = stores.get(address) ?? new MemoryObjectStore(address);
    stores.set(address, store);
    return store;
  };
  const put = (key: string, rows: typeof ROWS): Promise<unknown> =>
    objectStoreOf('s3://logs/day').put(key, Buffer.from(delimited(rows, ',')), { kind: 'always' });
  await put('a.csv', ROWS.slice(0, 30));
  await put('b.csv', ROWS.slice(30));
  const config = room.config({ ...SPLIT, logs: 's3://logs/day/*.csv', store: 's3://stores/one' });
  expect(contentOf(await room.prepare(config, { objectStoreOf }))).toEqual(await reference());
  const store = await openTaskStore('s3://stores/one', {
    objectStoreOf,
    downloadFolder: room.path('downloads'),
  });
  const { rows } = await room.stored('reference');
  expect(await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex))).toEqual(rows);
  await store.close();
  // Coordinator and executor of one process open it at the same time.
  const downloadFolder = room.path('shared-downloads');
  const opening = () => openTaskStore('s3://stores/one', { objectStoreOf, downloadFolder });
  for (const opened of await Promise.all([opening(), opening(), opening()])) {
    expect(opened.digest).toBe(store.digest);
    await opened.close();
  }
});

test('partitioned Parquet that is grouped is read in its order', async () => {
  await room.write('log.csv', delimited(ROWS, ','));
  for (const day of [1, 2]) {
    await mkdir(room.path(`log/day=${day}`), { recursive: true });
    await runInDuckDb(
      `COPY (SELECT ad, site, clicked, price FROM read_csv('${room.path('log.csv')}')
        WHERE (ad < 'ad3') = (${day} = 1) ORDER BY ad DESC, "at")
        TO '${room.path(`log/day=${day}/part.parquet`)}'`,
    );
  }
  const config = room.config({
    logs: room.path('log'),
    grouped: true,
    rowSplit: { by: 'time' },
    features: [{ name: 'day', kind: 'category' }],
  });
  await room.prepare(config);
  const { tasks, rows } = await room.stored();
  expect(tasks.map(({ key }) => key).join(' ')).toBe('ad2 ad1 ad0 ad6 ad5 ad4 ad3');
  expect(rows.flatMap((task) => [...task.logRows])).toEqual(ROWS.map((_, n) => n));
  // Two days, so two ids: 1 for the day with more rows.
  expect(new Set(rows.flatMap((task) => [...task.categoryIds[0]!]))).toEqual(new Set([1, 2]));
});

test('counts of clicks and impressions weigh as much as their expanded rows', async () => {
  await room.write('counts.csv', 'ad,site,clicks,shown\na,x,2,5\na,y,0,3\nb,x,1,1\nb,y,1,2\n');
  const expanded = [
    ...Array.from({ length: 5 }, (_, n) => `a,x,${n < 2 ? 1 : 0}`),
    ...Array.from({ length: 3 }, () => 'a,y,0'),
    'b,x,1',
    'b,y,1',
    'b,y,0',
  ];
  await room.write('rows.csv', `ad,site,clicked\n${expanded.join('\n')}\n`);
  const totals = async (config: RunConfig): Promise<number[][]> => {
    await room.prepare(config, { force: true });
    const sum = (values: Float32Array): number => values.reduce((a, b) => a + b, 0);
    return (await room.stored()).rows.map((task) => [sum(task.clicks), sum(task.impressions)]);
  };
  const label = { clicks: 'clicks', impressions: 'shown' };
  const fromCounts = await totals(room.config({ logs: room.path('counts.csv'), label }));
  expect(fromCounts).toEqual([
    [2, 8],
    [2, 3],
  ]);
  expect(await totals(room.config({ logs: room.path('rows.csv') }))).toEqual(fromCounts);
});

test('an expression reads 3.5 as 3.5, wherever it first occurs', async () => {
  const rows = Array.from({ length: 40 }, (_, n) => `a,x,${n < 39 ? 4 : 3.5}`);
  await room.write('log.csv', `ad,site,rating\n${rows.join('\n')}\n`);
  await room.prepare(room.config({ label: { expression: 'rating >= 4' } }));
  const {
    rows: [task],
  } = await room.stored();
  expect(task!.clicks[[...task!.logRows].indexOf(39)]).toBe(0);
  expect(task!.clicks.reduce((a, b) => a + b, 0)).toBe(39);
});

test('a split file sets tasks and roles from outside', async () => {
  await room.write('log.csv', 'ad,site,clicked\na,x,1\na,x,0\na,y,1\nb,x,0\nb,x,1\nb,y,1\n');
  await room.write(
    'split.csv',
    'row,task,role\n2,a,train-support\n0,a,train-query\n1,a,train-query\n5,b,test-support\n3,b,test-query\n',
  );
  const manifest = await room.prepare(room.config({ splitFile: room.path('split.csv') }));
  expect(manifest.leftOut).toMatchObject({ unplacedRowCount: 1, filteredRowCount: 0 });
  const { tasks, rows } = await room.stored();
  expect(tasks.map(({ key, split }) => [key, split])).toEqual([
    ['a', 'train'],
    ['b', 'test'],
  ]);
  const [a, b] = rows;
  expect([...a!.logRows]).toEqual([2, 0, 1]);
  expect(a!.supportRowCount).toBe(1);
  expect([...b!.logRows]).toEqual([5, 3]);
});

test('rejects are kept with file, line and reason', async () => {
  await room.write(
    'log.csv',
    'ad,site,price,clicked\na,x,1,1\n\na,"two\nlines",2,0\na,x,many,1\na,x,3\na,x,1,2\na,x,1,0\n,x,1,0\na,x,1,1,9\n',
  );
  const features = [{ name: 'price', kind: 'number' }];
  const manifest = await room.prepare(room.config({ features }));
  expect(manifest).toMatchObject({ rowCount: 3, rejectedRowCount: 5 });
  expect(await room.rejected()).toMatchObject([
    { line: 6, row: 2, reason: 'the column "price" holds "many", expected a number' },
    { line: 7, row: null, reason: 'missing columns: Expected Number of Columns: 4 Found: 3' },
    { line: 8, row: 3, reason: 'the column "clicked" holds "2", expected a label of 0 or 1' },
    { line: 10, row: 5, reason: 'the task column "ad" is empty' },
    { line: 11, row: null },
  ]);
});
