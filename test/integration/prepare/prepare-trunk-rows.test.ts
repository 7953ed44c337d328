// Rows outside of tasks that train the trunk: those of small training tasks, and those that a split file names train.
import { describe, expect, test } from 'vitest';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { StoreManifest } from '../../../shared/tasks/store-manifest.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

interface StoredTask {
  readonly key: string;
  readonly split: string;
  readonly supportRowCount: number;
  readonly logRows: readonly number[];
}

async function storedTasks(): Promise<StoredTask[]> {
  const { tasks, rows } = await room.stored();
  return tasks.map(({ key, split, supportRowCount }, place) => ({
    ...{ key, split, supportRowCount },
    logRows: [...rows[place]!.logRows],
  }));
}

const trunkRowsOf = (tasks: readonly StoredTask[]): number[] =>
  tasks.filter(({ split }) => split === 'trunk').flatMap(({ logRows }) => logRows);

/** `big0` to `big9` have four rows each, `small0` to `small299` one; by turns, so that all are seen early and late. */
const adOf = (row: number): string =>
  row % 17 < 2 ? `big${Math.floor(row / 17) % 10}` : `small${row}`;
const ROW_COUNT = 340;
const LOG = Array.from(
  { length: ROW_COUNT },
  (_, row) => `${adOf(row)},s${row % 5},${row},${row % 3 === 0 ? 1 : 0}\n`,
);
const HEADER = 'ad,site,at,clicked\n';

async function prepared(data: object): Promise<StoreManifest> {
  await room.write('log.csv', HEADER + LOG.join(''));
  return room.prepare(
    room.config({ time: 'at', trunkRows: 'small-tasks', features: FEATURES, ...data }),
  );
}
const FEATURES = [
  { name: 'site', kind: 'category' },
  { name: 'at', kind: 'number' },
];
const HELD_OUT = { validationShare: 0.2, testShare: 0.2 };

describe('rows of small tasks', () => {
  test('of the training split are put into batches, the others left out', async () => {
    const manifest = await prepared({ taskSplit: { by: 'hash', ...HELD_OUT } });
    const tasks = await storedTasks();
    const rows = trunkRowsOf(tasks);
    expect(manifest.taskCount).toBe(10);
    expect(manifest.trunk).toEqual({
      ...{ batchCount: Math.ceil(rows.length / 128), rowCount: rows.length },
      ...{ smallTaskCount: rows.length, smallTaskRowCount: rows.length },
    });
    expect(manifest.leftOut).toMatchObject({
      ...{ tooSmallRowCount: 300 - rows.length, cappedRowCount: 0, filteredRowCount: 0 },
    });
    expect(manifest.rowCount).toBe(40 + rows.length);
    expect(new Set(rows).size).toBe(rows.length);
    // About three fifths of 300, each a small one. Batches follow the tasks and have no support rows.
    expect(Math.abs(rows.length - 180)).toBeLessThan(40);
    expect(rows.every((row) => adOf(row).startsWith('small'))).toBe(true);
    expect(tasks.slice(10).map(({ key, split }) => [key, split])).toEqual(
      Array.from({ length: Math.ceil(rows.length / 128) }, (_, batch) => [
        ...[`trunk rows ${batch}`, 'trunk'],
      ]),
    );
    for (const { supportRowCount, logRows } of tasks.slice(10)) {
      expect(supportRowCount).toBe(0);
      expect(logRows).toEqual([...logRows].sort((a, b) => a - b));
    }
    const told = room.events.filter((event) => event.kind === 'notice').map(({ text }) => text);
    expect(told).toContainEqual(
      expect.stringContaining(`${rows.length} rows train the trunk only`),
    );
    expect(told).toContainEqual(
      expect.stringContaining(`${300 - rows.length} small held-out tasks`),
    );
  });

  test('teach dictionaries and moments; without the option they do neither', async () => {
    const numberOf = ({ features }: StoreManifest) =>
      features.find(({ kind }) => kind === 'number');
    const large = Array.from({ length: ROW_COUNT }, (_, row) => row).filter((row) =>
      adOf(row).startsWith('big'),
    );
    const meanOf = (rows: readonly number[]): number =>
      rows.reduce((sum, row) => sum + row, 0) / rows.length;
    expect(numberOf(await prepared({}))).toMatchObject({ mean: (ROW_COUNT - 1) / 2 });
    const without = await prepared({ trunkRows: 'none' });
    expect(numberOf(without)).toMatchObject({ mean: expect.closeTo(meanOf(large)) as number });
    expect(without.trunk).toBeUndefined();
    expect(without.leftOut).toMatchObject({ tooSmallTaskCount: 300, tooSmallRowCount: 300 });
  });

  test('by first-seen are those before every task that is held out', async () => {
    await prepared({ taskSplit: { by: 'first-seen', validationShare: 0, testShare: 0.3 } });
    // Large tasks are first seen at rows 0, 17, ... 153; the last three of them from row 119 on.
    expect(trunkRowsOf(await storedTasks()).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 119 }, (_, row) => row).filter((row) => adOf(row).startsWith('small')),
    );
  });

  test('are the same where logs are grouped', async () => {
    const sorted = [...LOG.entries()].sort(([a], [b]) =>
      adOf(a) === adOf(b) ? a - b : adOf(a) < adOf(b) ? -1 : 1,
    );
    await room.write('grouped.csv', HEADER + sorted.map(([, line]) => line).join(''));
    const taskSplit = { by: 'hash', ...HELD_OUT };
    const rowSplit = { by: 'time' };
    await prepared({ taskSplit, rowSplit });
    const apart = trunkRowsOf(await storedTasks()).sort((a, b) => a - b);
    await prepared({ taskSplit, rowSplit, grouped: true, logs: room.path('grouped.csv') });
    const grouped = trunkRowsOf(await storedTasks()).map((row) => sorted[row]![0]);
    expect(grouped.sort((a, b) => a - b)).toEqual(apart);
  });
});

describe('target encodings', () => {
  /** Ten large adgroups, and small ones with three rows each. */
  const log = Array.from({ length: 300 }, (_, row) => ({
    ad: row < 120 ? `big${row % 10}` : `small${row % 60}`,
    ...{ site: `s${(row * 7) % 11}`, clicked: (row * row) % 3 === 0 ? 1 : 0 },
  }));

  async function encodingsWith(
    flipped: number | null,
    by: 'none' | 'small-tasks',
  ): Promise<number[]> {
    const lines = log.map(
      ({ ad, site, clicked }, row) => `${ad},${site},${row === flipped ? 1 - clicked : clicked}\n`,
    );
    await room.write('log.csv', `ad,site,clicked\n${lines.join('')}`);
    await room.prepare(
      room.config({
        ...{ trunkRows: by, rowSplit: { by: 'hash', supportRowsMin: 3, queryRowsMin: 3 } },
        targetEncodings: { of: ['site'], folds: 3, smoothing: 2 },
      }),
    );
    const rates: number[] = [];
    for (const { logRows, numbers } of (await room.stored()).rows)
      for (const [place, row] of logRows.entries()) rates[row] = numbers[0]![place]!;
    return rates;
  }

  test('learn from small adgroups, and no row reads a label of its own adgroup', async () => {
    const before = await encodingsWith(null, 'small-tasks');
    const { ad } = log[200]!;
    const after = await encodingsWith(200, 'small-tasks');
    const changed = log.flatMap(({ ad: of }, row) => (before[row] === after[row] ? [] : [of]));
    expect(changed).not.toContain(ad);
    expect(changed.some((of) => of.startsWith('small'))).toBe(true);
    expect(changed.some((of) => of.startsWith('big'))).toBe(true);
    expect(await encodingsWith(null, 'none')).not.toEqual(before);
  });
});

describe('a split file', () => {
  const config = (data: object = {}): RunConfig =>
    room.config({ splitFile: room.path('split.csv'), ...data });
  const SPLIT = [
    ...['row,task,role', '0,a,train-support', '1,a,train-query', '2,a,train', '3,b,train'],
    ...['4,c,test-support', '5,c,test-query', '6,d,train-query', '7,e,test-query'],
  ];

  test('names rows that train the trunk, whatever becomes of small tasks', async () => {
    await room.write(
      'log.csv',
      HEADER +
        Array.from('aaabccde')
          .map((ad, row) => `${ad},x,${row},${row % 2}\n`)
          .join(''),
    );
    await room.write('split.csv', SPLIT.join('\n'));
    const manifest = await room.prepare(config());
    expect(trunkRowsOf(await storedTasks())).toEqual([2, 3]);
    expect(manifest.trunk).toMatchObject({ rowCount: 2, smallTaskCount: 0 });
    expect(manifest.leftOut).toMatchObject({ tooSmallTaskCount: 2, unplacedRowCount: 0 });
    expect(room.events).toContainEqual(
      expect.objectContaining({
        code: 'small-tasks-left-out',
        text: expect.stringMatching(/left out: 2 with fewer than \d+ support rows/) as string,
      }),
    );
    await room.prepare(config({ trunkRows: 'small-tasks' }));
    expect(trunkRowsOf(await storedTasks())).toEqual([2, 3, 6]);
  });

  test('puts no row of a held-out task into training', async () => {
    await room.write('log.csv', `${HEADER}a,x,0,1\na,x,1,0\nc,x,2,1\nc,x,3,0\nc,x,4,0\n`);
    await room.write(
      'split.csv',
      'row,task,role\n0,a,train-support\n1,a,train-query\n2,c,test-support\n3,c,test-query\n4,c,train\n',
    );
    await expect(room.prepare(config())).rejects.toThrow(/one task into two splits/);
  });
});

test('appended small tasks become batches behind the new tasks', async () => {
  const rowSplit = { by: 'time' };
  await prepared({ rowSplit });
  const before = await storedTasks();
  await room.write(
    'late.csv',
    `${HEADER}new1,fresh,400,1\nnew2,fresh,401,0\nbig0,s1,402,1\nwide,s1,403,1\nwide,s1,404,0\n`,
  );
  const { append } = await room.append(
    room.config({ time: 'at', trunkRows: 'small-tasks', features: FEATURES, rowSplit }),
    'late.csv',
  );
  expect(append).toMatchObject({ changedTaskCount: 1, newTaskCount: 1 });
  const tasks = await storedTasks();
  expect(tasks.slice(before.length)).toEqual([
    { key: 'wide', split: 'train', supportRowCount: 1, logRows: [343, 344] },
    { key: 'trunk rows 3', split: 'trunk', supportRowCount: 0, logRows: [340, 341] },
  ]);
  const store = await room.stored();
  expect(store.manifest).toMatchObject({
    ...{ taskCount: 11, rowCount: 345 },
    trunk: { batchCount: 4, rowCount: 302, smallTaskCount: 302, smallTaskRowCount: 302 },
    leftOut: { tooSmallTaskCount: 0, cappedRowCount: 0 },
  });
  expect(await store.readDictionary?.('site')).toContain('fresh');
});
