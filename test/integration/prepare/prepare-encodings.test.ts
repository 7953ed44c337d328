// How each config field transforms a value, checked against arithmetic in this file.
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { tableFromIPC } from 'apache-arrow';
import type { StoreManifest } from '../../../shared/tasks/store-manifest.js';
import type { TaskEntry, TaskRows } from '../../../shared/tasks/task-store.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

interface Prepared {
  readonly manifest: StoreManifest;
  readonly tasks: readonly TaskEntry[];
  readonly rows: readonly TaskRows[];
  /** The value that `pick` returns for a row, by the row's number in the logs. */
  readonly byLogRow: (pick: (task: TaskRows, row: number) => number) => Map<number, number>;
}

async function prepared(log: string, data: object): Promise<Prepared> {
  await room.write('log.csv', log);
  const manifest = await room.prepare(room.config(data));
  const { tasks, rows } = await room.stored();
  return {
    manifest,
    tasks,
    rows,
    byLogRow: (pick) =>
      new Map(
        rows.flatMap((task) =>
          [...task.logRows].map((logRow, row): [number, number] => [logRow, pick(task, row)]),
        ),
      ),
  };
}

async function rejectReasons(): Promise<string[]> {
  return (await room.rejected()).map(({ reason }) => reason);
}

test('several columns together name a task', async () => {
  const log =
    'shop,ad,site,clicked\n1,a,x,1\n1,b,x,0\n2,a,x,0\n1,a,x,0\n1,b,x,1\n2,a,x,1\n2,,x,1\n';
  const { manifest, tasks } = await prepared(log, { task: ['shop', 'ad'] });
  expect(manifest.taskColumns).toEqual(['shop', 'ad']);
  expect(tasks.map(({ key }) => key)).toEqual(['1\u001fa', '1\u001fb', '2\u001fa']);
  expect(await rejectReasons()).toEqual(['the task column "ad" is empty']);
});

test('a weight multiplies clicks and impressions, of labels and of counts', async () => {
  const log =
    'ad,site,w,clicked,clicks,shown\na,x,0.5,1,2,8\na,x,3,0,1,4\na,x,0,1,1,1\na,x,-1,1,1,1\na,x,,1,1,1\na,x,2,1,0,1\n';
  const labelled = await prepared(log, { weight: 'w' });
  expect(labelled.byLogRow((t, row) => t.clicks[row]!)).toEqual(
    new Map([
      [0, 0.5],
      [1, 0],
      [5, 2],
    ]),
  );
  expect(labelled.byLogRow((t, row) => t.impressions[row]!)).toEqual(
    new Map([
      [0, 0.5],
      [1, 3],
      [5, 2],
    ]),
  );
  expect((await rejectReasons()).map((reason) => reason.replace(/.*holds /, ''))).toEqual([
    '"0", expected a weight above 0',
    '"-1", expected a weight above 0',
    'nothing, expected a weight above 0',
  ]);
  const label = { clicks: 'clicks', impressions: 'shown' };
  const counted = await prepared(log, { weight: 'w', label });
  expect(counted.byLogRow((t, row) => t.clicks[row]!)).toEqual(
    new Map([
      [0, 1],
      [1, 3],
      [5, 0],
    ]),
  );
  expect(counted.byLogRow((t, row) => t.impressions[row]!)).toEqual(
    new Map([
      [0, 4],
      [1, 12],
      [5, 2],
    ]),
  );
});

test('values seen fewer than countMin times share id 0, in categories and in bags', async () => {
  const log = 'ad,site,tags,clicked\na,x,p|q,1\na,y,p,0\na,x,r|p,1\na,y,q,0\na,z,,1\na,y,p,0\n';
  const { manifest, byLogRow } = await prepared(log, {
    features: [
      { name: 'site', kind: 'category', countMin: 2 },
      { name: 'tags', kind: 'bag', countMin: 2, lengthMax: 2 },
    ],
  });
  expect(manifest.features).toMatchObject([{ rowCount: 3 }, { rowCount: 3 }]);
  const idsOf = (pick: (task: TaskRows, row: number) => number): number[] =>
    [...byLogRow(pick)].sort(([a], [b]) => a - b).map(([, id]) => id);
  // y three times, x twice, z once; p four times, q twice, r once.
  expect(idsOf((task, row) => task.categoryIds[0]![row]!)).toEqual([2, 1, 2, 1, 0, 1]);
  expect(idsOf((task, row) => task.bagIds[0]![row * 2]!)).toEqual([1, 1, 0, 2, -1, 1]);
  expect(idsOf((task, row) => task.bagIds[0]![row * 2 + 1]!)).toEqual([2, -1, 1, -1, -1, -1]);
  const dictionary = tableFromIPC(await readFile(room.path('store/dictionaries/tags.arrow')));
  expect(dictionary.getChild('value')!.toJSON()).toEqual([null, 'p', 'q']);
});

test('numbers are scaled by their kind of scale, on both sides of 0', async () => {
  const prices = [-7, 0, 1, 7, 1e6, -1e6];
  const log = `ad,site,price,clicked\n${prices.map((price, n) => `a,x,${price},${n % 2}\n`).join('')}`;
  const { manifest, byLogRow } = await prepared(log, {
    features: [
      { name: 'plain', kind: 'number', column: 'price', scale: 'none' },
      { name: 'log', kind: 'number', column: 'price', scale: 'log-standard' },
      { name: 'bucket', kind: 'number', column: 'price', scale: 'log-bucket' },
      { name: 'same', kind: 'number', expression: '3' },
    ],
  });
  const logs = prices.map((price) => Math.sign(price) * Math.log1p(Math.abs(price)));
  const mean = logs.reduce((sum, x) => sum + x, 0) / logs.length;
  const deviation = Math.sqrt(logs.reduce((sum, x) => sum + (x - mean) ** 2, 0) / logs.length);
  expect(manifest.features[1]).toMatchObject({ scale: 'log-standard' });
  const plain = byLogRow((task, row) => task.numbers[0]![row]!);
  const scaled = byLogRow((task, row) => task.numbers[1]![row]!);
  const bucket = byLogRow((task, row) => task.categoryIds[0]![row]!);
  const same = byLogRow((task, row) => task.numbers[2]![row]!);
  for (const [row, price] of prices.entries()) {
    expect(plain.get(row)).toBe(price);
    expect(scaled.get(row)).toBeCloseTo((logs[row]! - mean) / deviation, 5);
    const size = 1 + Math.floor(Math.log2(1 + Math.abs(price)));
    expect(bucket.get(row)).toBe(price < 0 ? size + 64 : size);
    expect(same.get(row)).toBe(0);
  }
});

test('a value beyond single precision is rejected with its line, and the others are kept', async () => {
  const log =
    'ad,site,price,w,clicked\na,x,1,1,1\na,x,1e300,1,0\na,x,2,1e300,0\na,x,3,1e-300,1\na,x,4,1,0\n';
  const { manifest } = await prepared(log, {
    weight: 'w',
    features: [{ name: 'price', kind: 'number', scale: 'none' }],
  });
  expect(manifest).toMatchObject({ rowCount: 2, rejectedRowCount: 3 });
  expect(await rejectReasons()).toEqual([
    'the column "price" holds "1e300", expected a number within 3.4e38 of 0',
    'impressions times weight are 1e+300, expected 1.2e-38 to 3.4e38',
    'impressions times weight are 1e-300, expected 1.2e-38 to 3.4e38',
  ]);
});

test('Windows line endings and a byte order mark change nothing', async () => {
  const log = 'ad,site,clicked\na,x,1\na,y,0\nb,x,0\nb,y,1\nb,,7\n';
  const expected = await prepared(log, {});
  const reasons = await rejectReasons();
  const found = await prepared(`\ufeff${log.replaceAll('\n', '\r\n')}`, {});
  expect(found.rows).toEqual(expected.rows);
  expect(await rejectReasons()).toEqual(reasons);
  const object = (site: string, clicked: number): string =>
    JSON.stringify({ ad: 'a', site, clicked });
  await room.write('log.jsonl', `\ufeff${object('x', 1)}\r\n${object('y', 0)}\r\n`);
  const manifest = await room.prepare(room.config({ logs: room.path('log.jsonl') }));
  expect(manifest).toMatchObject({ rowCount: 2, rejectedRowCount: 0 });
});

test('mean and deviation are sums in order of the rows, however many threads read them', async () => {
  // Several times what a thread takes at a time.
  const prices = Array.from({ length: 400_000 }, (_, n) => ((n * 7919) % 100_003) / 7);
  const rows = prices.map((price, n) => `ad${(n * 31) % 1009},${price},${n % 2}\n`);
  await room.write('log.csv', `ad,price,clicked\n${rows.join('')}`);
  const features = [{ name: 'price', kind: 'number' }];
  const {
    features: [price],
  } = await room.prepare(room.config({ features }));
  const sum = prices.reduce((before, value) => before + value, 0);
  expect(price).toMatchObject({ mean: sum / prices.length });
});
