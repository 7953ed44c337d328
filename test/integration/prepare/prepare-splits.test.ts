// Which tasks are held out, which rows support and which are judged. Nothing of a held-out task may
// reach what is learned from the training tasks.
import { mkdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { failureTextOf, roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { runInDuckDb } from '../../fixtures/duckdb-for-test.js';

const room = roomOfEachTest();

interface LogRow {
  readonly ad: string;
  readonly site: string;
  readonly tags: string;
  readonly price: number;
  readonly at: number;
  readonly clicked: number;
}

const csvOf = (rows: readonly LogRow[]): string =>
  `ad,site,tags,price,at,clicked\n${rows.map((row) => `${Object.values(row).join(',')}\n`).join('')}`;

const ROWS = Array.from({ length: 400 }, (_, n): LogRow => {
  const ad = `ad${n % 40}`;
  return {
    ad,
    site: `s${n % 13}`,
    tags: `t${n % 5}|u${n % 3}`,
    price: n % 17,
    at: n,
    clicked: n % 2,
  };
});
const FEATURES = [
  { name: 'site', kind: 'category', countMin: 2 },
  { name: 'tags', kind: 'bag' },
  { name: 'price', kind: 'number' },
];
const HELD_OUT = { by: 'hash', validationShare: 0.2, testShare: 0.2 };

test('other rows of held-out tasks change no dictionary, no scale and no training row', async () => {
  const contentOf = async (rows: readonly LogRow[]) => {
    await room.write('log.csv', csvOf(rows));
    const config = room.config({ features: FEATURES, time: 'at', taskSplit: HELD_OUT });
    const { features } = await room.prepare(config);
    const { tasks, rows: stored } = await room.stored();
    const train = tasks.filter(({ split }) => split === 'train');
    const rowsOfTrain = train.map(({ taskIndex }) => stored[taskIndex]);
    const dictionaries = await Promise.all(
      ['site', 'tags'].map((name) => readFile(room.path(`store/dictionaries/${name}.arrow`))),
    );
    return { tasks, content: { features, train, rowsOfTrain, dictionaries } };
  };
  const before = await contentOf(ROWS);
  const heldOut = new Set(
    before.tasks.filter(({ split }) => split !== 'train').map(({ key }) => key),
  );
  expect(heldOut.size).toBeGreaterThan(5);
  const changed = ROWS.map((row) =>
    heldOut.has(row.ad)
      ? { ...row, site: 'new', tags: 'new|newer', price: 1e6, clicked: 1 - row.clicked }
      : row,
  );
  expect((await contentOf(changed)).content).toEqual(before.content);
});

test.each(['hash', 'first-seen'])(
  'rows after trainUntil reach nothing that training or validation reads, by %s',
  async (by) => {
    const until = 300;
    const contentOf = async (rows: readonly LogRow[]) => {
      await room.write('log.csv', csvOf(rows));
      const config = room.config({
        ...{ features: FEATURES, time: 'at', trunkRows: 'small-tasks' },
        taskSplit: { ...HELD_OUT, by, trainUntil: until },
        rowSplit: { by: 'time', supportShare: 0.5, supportRowsMin: 2, queryRowsMin: 2 },
        targetEncodings: { of: ['site'], folds: 3 },
      });
      const { features, leftOut, trunk, rowCount } = await room.prepare(config);
      const { tasks, rows: stored } = await room.stored();
      const early = tasks.filter(({ split }) => split !== 'test');
      const files = ['dictionaries/site', 'dictionaries/tags', 'encodings/site'];
      return {
        ...{ tasks, stored, leftOut, rowCount },
        content: {
          ...{ features, early, trunk },
          rows: early.map(({ taskIndex }) => stored[taskIndex]),
          files: await Promise.all(files.map((name) => readFile(room.path(`store/${name}.arrow`)))),
        },
      };
    };
    // The ads from the 30th on have all their rows late, and the tenth has one early row.
    const rows = ROWS.map((row, n) => ({
      ...row,
      tags: `t${n % 5}`,
      ad: row.at > until || n % 40 < 30 ? row.ad : 'ad1',
    })).filter(({ ad, at }) => ad !== 'ad10' || at > until || at === 10);
    const whole = await contentOf(rows);
    const late = await contentOf(
      rows.map((row) =>
        row.at > until ? { ...row, site: 'new', price: 1e6, clicked: 1 - row.clicked } : row,
      ),
    );
    expect(late.content).toEqual(whole.content);
    expect(whole.content.early.length).toBeGreaterThan(10);
    for (const { taskIndex, split } of whole.tasks) {
      const { times, supportRowCount } = whole.stored[taskIndex]!;
      if (split !== 'test') expect(Math.max(...times)).toBeLessThanOrEqual(until);
      else expect(Math.min(...times.subarray(supportRowCount))).toBeGreaterThan(until);
    }
    const ofTest = whole.tasks.filter(({ split }) => split === 'test');
    expect(ofTest.length).toBeGreaterThan(2);
    expect(whole.leftOut!.unplacedRowCount).toBeGreaterThan(50);
    const { filteredRowCount, tooSmallRowCount, cappedRowCount, unplacedRowCount } = whole.leftOut!;
    expect([filteredRowCount, cappedRowCount]).toEqual([0, 0]);
    expect(whole.rowCount + tooSmallRowCount + unplacedRowCount).toBe(rows.length);
  },
);

test.each([5, '1970-01-01 00:00:05'])('%o is a time until which rows train', async (trainUntil) => {
  const rows = Array.from({ length: 10 }, (_, n) => `a,x,${n},${n % 2}\n`);
  await room.write('log.csv', `ad,site,at,clicked\n${rows.join('')}`);
  const taskSplit = { by: 'hash', validationShare: 0, testShare: 0, trainUntil };
  await room.prepare(room.config({ time: 'at', taskSplit, rowSplit: { by: 'time' } }));
  expect([...(await room.stored()).rows[0]!.times]).toEqual([0, 1, 2, 3, 4, 5]);
});

test.each([
  ['in other units', { trainUntil: 0.3, testShare: 0.2 }],
  ['with all tasks training', { trainUntil: 0.3, testShare: 0 }],
  ['before the first row', { trainUntil: '1969-12-31 00:00:00Z', testShare: 0.2 }],
])('a cut before all training rows is named: %s', async (_name, cut) => {
  await room.write('log.csv', csvOf(ROWS.map((row) => ({ ...row, at: row.at + 1 }))));
  const taskSplit = { ...HELD_OUT, ...cut };
  const config = room.config({ time: 'at', taskSplit, rowSplit: { by: 'time' } });
  const told = await failureTextOf(room.prepare(config));
  expect(told).toContain(`data.taskSplit.trainUntil: ${cut.trainUntil}`);
  expect(told).toContain('logs from 1 to 400');
});

test('test tasks without a row after the cut are told as such', async () => {
  await room.write('log.csv', csvOf(ROWS.map((row) => ({ ...row, at: Math.min(row.at, 300) }))));
  const taskSplit = { ...HELD_OUT, trainUntil: 300 };
  await room.prepare(room.config({ time: 'at', taskSplit, rowSplit: { by: 'time' } }));
  const told = room.events.filter((event) => event.kind === 'notice').map(({ text }) => text);
  expect(told).toContainEqual(
    expect.stringMatching(/left out: \d+ with fewer than 1 query rows \(queryRowsMin\)/),
  );
});

test('a cut that is no time is refused', async () => {
  await room.write('log.csv', csvOf(ROWS));
  const taskSplit = { ...HELD_OUT, trainUntil: 'last week' };
  const config = room.config({ time: 'at', taskSplit, rowSplit: { by: 'time' } });
  expect(await failureTextOf(room.prepare(config))).toMatch(/trainUntil[^]*last week/);
});

test('a task stays on its side regardless of the other tasks', async () => {
  const sidesOf = async (rows: readonly LogRow[]): Promise<Map<string, string>> => {
    await room.write('log.csv', csvOf(rows));
    await room.prepare(room.config({ taskSplit: HELD_OUT }));
    return new Map((await room.stored()).tasks.map(({ key, split }) => [key, split]));
  };
  const all = await sidesOf(ROWS);
  const some = await sidesOf(ROWS.filter(({ ad }) => ad > 'ad2'));
  expect(some.size).toBeLessThan(all.size);
  for (const [key, split] of some) expect(all.get(key)).toBe(split);
  expect(new Set(all.values())).toEqual(new Set(['train', 'validation', 'test']));
});

test('first-seen holds out the tasks that appeared last, and the very last for test', async () => {
  // First seen at 9, 1, 5, 3 and 7; `late` has most of its rows early in the file.
  const at: Record<string, number[]> = { e: [9, 20], a: [1, 30], c: [5, 6], b: [40, 3], d: [7, 8] };
  const rows = Object.entries(at).flatMap(([ad, times]) =>
    times.map((time): LogRow => ({ ad, site: 'x', tags: '', price: 1, at: time, clicked: 1 })),
  );
  await room.write('log.csv', csvOf(rows));
  const taskSplit = { by: 'first-seen', validationShare: 0.4, testShare: 0.2 };
  await room.prepare(room.config({ time: 'at', taskSplit }));
  const { tasks } = await room.stored();
  expect(tasks.map(({ key, split }) => [key, split])).toEqual([
    ['a', 'train'],
    ['b', 'train'],
    ['c', 'validation'],
    ['d', 'validation'],
    ['e', 'test'],
  ]);
});

test.each([
  [{ supportShare: 0.5, supportRowsMax: 3, queryRowsMax: 2 }, [2, 3, 4], [5, 6]],
  [{ supportShare: 0.5, supportRowsMax: 5, queryRowsMax: 5 }, [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]],
  [{ supportShare: 0.75, supportRowsMax: 99, queryRowsMax: 1 }, [0, 1, 2, 3, 4, 5, 6, 7], [8]],
  [{ supportShare: 0, supportRowsMin: 2 }, [0, 1], [2, 3, 4, 5, 6, 7, 8, 9]],
  [{ supportShare: 1, queryRowsMin: 4 }, [0, 1, 2, 3, 4, 5], [6, 7, 8, 9]],
])(
  'of ten rows in time order, %o keeps those on both sides of the cut',
  async (rowSplit, support, query) => {
    // Row n of the log has time 9 - n: the log is backwards.
    const rows = Array.from({ length: 10 }, (_, n) => `a,x,${9 - n},${n % 2}\n`);
    await room.write('log.csv', `ad,site,at,clicked\n${rows.join('')}`);
    const config = room.config({ time: 'at', rowSplit: { by: 'time', ...rowSplit } });
    const manifest = await room.prepare(config);
    const [task] = (await room.stored()).rows;
    const times = [...task!.logRows].map((row) => 9 - row);
    expect(times.slice(0, task!.supportRowCount)).toEqual(support);
    expect(times.slice(task!.supportRowCount)).toEqual(query);
    expect(manifest.leftOut?.cappedRowCount).toBe(10 - support.length - query.length);
  },
);

test('a column of integers in one file and fractions in the next is not rounded', async () => {
  await mkdir(room.path('log'));
  await runInDuckDb(`COPY (SELECT 'a' AS ad, 'x' AS site, 4 AS rating FROM range(3))
    TO '${room.path('log/1.parquet')}'`);
  await runInDuckDb(`COPY (SELECT 'a' AS ad, 'x' AS site, 3.5::DOUBLE AS rating FROM range(2))
    TO '${room.path('log/2.parquet')}'`);
  await room.write('log/3.csv', 'ad,site,rating\na,x,3.75\n');
  const label = { expression: 'rating >= 4' };
  const logs = [room.path('log/1.parquet'), room.path('log/2.parquet'), room.path('log/3.csv')];
  for (const count of [2, 3]) {
    await room.prepare(room.config({ label, logs: logs.slice(0, count) }));
    const [task] = (await room.stored()).rows;
    const clicked = [...task!.logRows].filter((_, row) => task!.clicks[row] === 1);
    expect(clicked.sort()).toEqual([0, 1, 2]);
  }
});

test('a split file without a task for a row is refused', async () => {
  await room.write('log.csv', 'ad,site,clicked\na,x,1\na,x,0\n');
  const splitFile = await room.write(
    'split.csv',
    'row,task,role\n0,a,train-support\n1,,train-query\n',
  );
  expect(await failureTextOf(room.prepare(room.config({ splitFile })))).toMatch(
    /split file does not fit[^]*row 1/,
  );
});
