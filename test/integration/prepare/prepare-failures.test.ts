// Each error in logs or config gives one clear failure and leaves nothing behind.
import { beforeEach, expect, test } from 'vitest';
import { readdir, writeFile, mkdir } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { formatFailure } from '../../../shared/base/errors.js';
import { failureOf } from '../../fixtures/failures.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();
beforeEach(async () => {
  await room.write('log.csv', GOOD);
});

const GOOD = 'ad,site,price,clicked\na,x,1,1\na,y,2,0\nb,x,3,1\nb,y,4,0\n';

/** Where DuckDB rejects a line, and where it left it out. */
const LONG_LINES = [1, 250_000];

/** Objects in JSON, of which one has a long text. */
function linesWith(n: number, text: string): string {
  const row = '{"ad":"a","site":"x","clicked":1}\n';
  return `${row.repeat(n - 1)}{"ad":"a","site":"${text}","clicked":0}\n${row}`;
}

const BLOCK_BYTE_COUNT_MAX = 128 * 1024;

/** A frame of Zstandard whose blocks are stored as they are. */
function zstdStored(text: string): Buffer {
  const bytes = Buffer.from(text);
  const parts = [Buffer.from('28b52ffd0038', 'hex')];
  for (let start = 0; start < bytes.length; start += BLOCK_BYTE_COUNT_MAX) {
    const block = bytes.subarray(start, start + BLOCK_BYTE_COUNT_MAX);
    const header = Buffer.alloc(3);
    const isLast = start + BLOCK_BYTE_COUNT_MAX >= bytes.length;
    header.writeUIntLE(block.length * 8 + Number(isLast), 0, 3);
    parts.push(header, block);
  }
  return Buffer.concat(parts);
}

const cases: [
  string,
  () => Record<string, unknown> | Promise<Record<string, unknown>>,
  string,
  RegExp,
][] = [
  [
    'no file matches',
    () => ({ logs: room.path('none-*.csv') }),
    'data',
    /no log file matches[^]*none-\*\.csv/,
  ],
  [
    'a bracket that is not closed',
    () => ({ logs: 's3://bucket-of-logs/a[.csv' }),
    'usage',
    /pattern of log files[^]*a\[\.csv[^]*close the bracket/,
  ],
  [
    'unknown format',
    async () => ({ logs: await room.write('log.txt', GOOD) }),
    'usage',
    /format of a log file[^]*data\.format/,
  ],
  [
    'not gzip',
    async () => ({ logs: await room.write('bad.csv.gz', 'plain') }),
    'data',
    /cannot be read[^]*GZIP/,
  ],
  [
    'gzip that is cut short',
    async () => ({ logs: await room.write('cut.csv.gz', gzipSync(GOOD).subarray(0, -9)) }),
    'data',
    /cut short[^]*cut\.csv\.gz[^]*ends in the middle[^]*copy it again/,
  ],
  [
    'an archive, whatever data.format says',
    async () => ({ logs: await room.write('log.csv.zip', 'not read'), format: 'csv' }),
    'usage',
    /logs compressed as \.zip[^]*\.gz or \.zst[^]*: unzip -p \S*log\.csv\.zip \| gzip > \S*log\.csv\.gz$/,
  ],
  [
    'not xz',
    async () => ({ logs: await room.write('bad.csv.xz', 'plain') }),
    'data',
    /compressed log cannot be read to its end[^]*bad\.csv\.xz[^]*not recognized/,
  ],
  [
    'an archive, in a folder of other logs',
    async () => {
      await mkdir(room.path('logs'));
      await room.write('logs/a.csv', GOOD);
      await room.write('logs/b.jsonl.7z', 'not read');
      return { logs: room.path('logs') };
    },
    'usage',
    /logs compressed as \.7z[^]*b\.jsonl\.7z[^]*7z x -so/,
  ],
  [
    'an address that is not read',
    () => ({ logs: 'https://example.com/log.csv' }),
    'usage',
    /not read from this kind of address[^]*s3:\/\/BUCKET\/KEY/,
  ],
  [
    'header only',
    async () => ({ logs: await room.write('header.csv', 'ad,site,clicked\n') }),
    'data',
    /logs are empty/,
  ],
  [
    'no such column',
    () => ({ task: 'adds' }),
    'usage',
    /no column "adds"[^]*ad, site, price, clicked[^]*did you mean "ad"/,
  ],
  [
    'bad SQL',
    () => ({ label: { expression: 'price >=' } }),
    'usage',
    /data\.label\.expression: price >=[^]*syntax error/,
  ],
  [
    'a column that is a word of SQL',
    () => ({ label: { expression: 'at > 1' } }),
    'usage',
    /syntax error[^]*double quotes around names of columns that are words of SQL/,
  ],
  [
    'a field of an object in JSON',
    async () => ({
      logs: await room.write('log.jsonl', '{"ad":"a","site":"x","place":{"city":"c"}}\n'),
      label: { expression: "place.city = 'c'" },
    }),
    'usage',
    /Cannot extract field[^]*place ->> 'city'/,
  ],
  [
    'columns in expressions that differ only in case',
    async () => ({
      logs: await room.write('log.csv', 'ad,site,Site,clicked\na,x,p,1\na,y,q,0\n'),
      label: { expression: `"Site" = 'p'` },
      where: `site <> 'z'`,
    }),
    'usage',
    /differ only in case[^]*"site" and "Site"/,
  ],
  ['not a condition', () => ({ label: { expression: 'price + 1' } }), 'usage', /not BOOLEAN/],
  [
    'too many rejects',
    () => ({ label: { column: 'price' }, rejectedRowsMax: 1 }),
    'data',
    /log\.csv, line 3: the column "price" holds "2"/,
  ],
  [
    'rejects of several kinds',
    async () => ({
      logs: await room.write(
        'kinds.csv',
        'ad,site,price,clicked\na,x,1,no\na,y,2,no\nb,x,3,no\nb,y,4,no\nb,y,4,no\nb,y,4,no\n,x,5,no\n',
      ),
      rejectedRowsMax: 2,
    }),
    'data',
    /7 rejected rows, the first of them:\n.*line 2: the column "clicked" holds "no".* \(one of 6 such rows\)\n[^]*line 5: .*\n.*line 8: the task column "ad" is empty\n {2}cure/,
  ],
  ...LONG_LINES.map((n): (typeof cases)[number] => [
    `line ${n} of a log is longer than DuckDB reads`,
    async () => ({
      logs: await room.write('long.jsonl', linesWith(n, 'x'.repeat(9 * 2 ** 20))),
      rejectedRowsMax: 10,
    }),
    'data',
    new RegExp(`too long[^]*long\\.jsonl, line ${n}\n[^]*8 MiB\n[^]*9\\.00 MiB\n[^]*Parquet`),
  ]),
  [
    'a line of a compressed log is longer than three buffers of DuckDB',
    async () => ({
      logs: await room.write('long.jsonl.gz', gzipSync(linesWith(9_000, 'x'.repeat(2 ** 25)))),
    }),
    'data',
    /too long[^]*long\.jsonl\.gz\n[^]*32\.00 MiB/,
  ],
  [
    'a line of CSV in Zstandard is longer than two buffers of DuckDB',
    async () => {
      const rows = `${'a,x,1\n'.repeat(2_000_000)}a,${'x'.repeat(20 * 2 ** 20)},0\na,y,1\n`;
      return { logs: await room.write('long.csv.zst', zstdStored(`ad,site,clicked\n${rows}`)) };
    },
    'data',
    /too long[^]*long\.csv\.zst\n[^]*8 MiB/,
  ],
  [
    'a quoted text of many lines is longer than DuckDB reads',
    async () => ({
      logs: await room.write('long.csv', `${GOOD}a,"${'text\n'.repeat(2 ** 21)}",1,0\n${GOOD}`),
      rejectedRowsMax: 10,
    }),
    'data',
    /too long[^]*long\.csv, line 6\n[^]*10\.00 MiB/,
  ],
  [
    'text that is not UTF-8, beyond the first lines',
    async () => ({
      logs: await room.write(
        'latin.csv',
        Buffer.from(`${GOOD}${GOOD.repeat(900)}a,caf\u00e9,1,0\n`, 'latin1'),
      ),
      rejectedRowsMax: 1000,
    }),
    'data',
    /latin\.csv[^]*UTF-8: iconv/,
  ],
  ...['log.csv', 'log.jsonl'].map((name): (typeof cases)[number] => [
    `rows of ${name} that end in two ways`,
    async () => {
      const isCsv = name.endsWith('csv');
      const rows = isCsv ? ['ad,site,clicked,x', 'a,x,1,0'] : ['{"ad":"a","clicked":1}', '{}'];
      return { logs: await room.write(name, `${rows.join('\r\n')}\n${rows.at(-1) ?? ''}\r\n`) };
    },
    'data',
    /cannot be read[^]*end alike[^]*two ways[^]*tr -d '\\r'/,
  ]),
  [
    'tasks too small',
    () => ({ rowSplit: { by: 'hash', supportRowsMin: 5 } }),
    'data',
    /every task has too few rows[^]*2 tasks/,
  ],
  ['nothing left', () => ({ where: 'price > 9' }), 'data', /no row of the logs is left/],
  [
    'bounds cross',
    () => ({ rowSplit: { by: 'hash', supportRowsMin: 5, supportRowsMax: 2 } }),
    'usage',
    /supportRowsMin is above/,
  ],
  [
    'reserved name',
    () => ({ features: [{ name: 'time', kind: 'category', column: 'site' }] }),
    'usage',
    /cannot name a feature/,
  ],
  [
    'not grouped',
    async () => ({
      grouped: true,
      logs: await room.write('mixed.csv', 'ad,site,clicked\na,x,1\nb,x,1\na,x,0\nb,x,1\n'),
    }),
    'data',
    /not grouped[^]*"b"/,
  ],
  [
    'split file misfits',
    async () => ({ splitFile: await room.write('split.csv', 'row,task,role\n0,b,train-query\n') }),
    'data',
    /split file does not fit/,
  ],
];

test.each(cases)('%s', async (_, data, kind, message) => {
  const config = room.config(await data());
  const before = (await readdir(room.folder)).sort();
  const failure = await failureOf(room.prepare(config));
  expect(formatFailure(failure)).toMatch(message);
  expect(failure.kind).toBe(kind);
  expect((await readdir(room.folder)).sort()).toEqual(before);
});

test('a folder with other content is not touched', async () => {
  await mkdir(room.path('store'));
  await writeFile(room.path('store/thesis.txt'), 'mine');
  const failure = await failureOf(room.prepare(room.config()));
  expect(formatFailure(failure)).toMatch(/holds something else[^]*thesis\.txt/);
  expect(await readdir(room.path('store'))).toEqual(['thesis.txt']);
});

test('it stops on request and leaves nothing behind', async () => {
  const stop = new AbortController();
  const failure = await failureOf(
    room.prepare(room.config(), {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.kind === 'progress' && event.stage === 'dictionaries') stop.abort();
      },
    }),
  );
  expect(failure).toMatchObject({
    kind: 'interrupted',
    report: {
      what: 'prepare was stopped on request and wrote nothing',
      cure: 'run the command again',
    },
  });
  expect(await readdir(room.folder)).toEqual(['log.csv']);
});

test('a store of the same logs is kept, a store of others is replaced', async () => {
  const first = await room.prepare(room.config());
  room.events.length = 0;
  expect(await room.prepare(room.config())).toEqual(first);
  expect(room.events).toMatchObject([
    { kind: 'notice', code: 'store-kept', text: expect.stringContaining('kept') as string },
  ]);
  await room.write('log.csv', GOOD.replace('a,x,1,1', 'a,z,1,1'));
  expect((await room.prepare(room.config())).sourceDigest).not.toBe(first.sourceDigest);
});
