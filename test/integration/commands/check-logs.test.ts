// `qianmo check` before `prepare`: what it says about logs whose flaws are known.
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { commandRoom, expectFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

const room = openedOnce(commandRoom);

const ResultSchema = z.looseObject({
  requirement: z.string(),
  state: z.string(),
  detail: z.string(),
  cure: z.string().nullable(),
  logs: z.unknown().optional(),
});

async function checkedLogs(config: string): Promise<z.infer<typeof ResultSchema>[]> {
  const { output } = await room.ended(['check', config, '--format', 'json']);
  const results = z.array(ResultSchema).parse(JSON.parse(output));
  return results.filter(({ requirement }) => ['logs', 'task store'].includes(requirement));
}

const HEADER = 'adgroup,second,site,user,age,clicked';
/** Eight adgroups of six rows, of which half are support rows, and two of three rows. */
const GOOD = Array.from({ length: 54 }, (_, row) => {
  const adgroup = row < 48 ? Math.floor(row / 6) : 8 + Math.floor((row - 48) / 3);
  return `g${adgroup},${row},s${row % 3},u1,30,${row % 2}`;
});
const FLAWS = [
  ...['g0,90,s0,u1,30,?', 'g1,91,s0,u1,30,!', 'g2,92,s0,u1,30,?'],
  ...['g0,93,s0,u1,n/a,1', 'g1,94,s0,u1,old,1'],
  'g0,95,s0',
];
const DIVIDED = {
  rowSplit: { by: 'time', supportRowsMin: 2, queryRowsMin: 2 },
  taskSplit: { by: 'first-seen', validationShare: 0.25, testShare: 0.25 },
};

test('rejected rows by reason and adgroups by split, of a log that is read whole', async () => {
  await room.write('flawed.csv', [HEADER, ...GOOD, ...FLAWS].join('\n'));
  const config = await room.config('flawed', ({ data }) => {
    Object.assign(data, { logs: 'flawed.csv', store: 'none', ...DIVIDED });
  });
  const [logs, store] = await checkedLogs(config);
  expect(logs).toMatchObject({
    state: 'warning',
    detail: 'all 59 rows of flawed.csv',
    cure: expect.stringContaining('correct the logs') as string,
    logs: {
      isWhole: true,
      rowCount: 59,
      rejected: [
        { rowCount: 3, reason: 'the column "clicked" holds "?", expected a label of 0 or 1' },
        { rowCount: 2, reason: 'the column "age" holds "n/a", expected a number' },
        { rowCount: 1, reason: expect.stringMatching(/^missing columns: /) as string },
      ],
      division: {
        taskCount: 8,
        taskCountBySplit: { train: 4, validation: 2, test: 2 },
        ...{ supportRowCount: 24, queryRowCount: 24, trunkRowCount: 0 },
      },
      remarks: [expect.stringMatching(/^2 tasks \(6 rows\) left out/)],
    },
  });
  expect(store).toMatchObject({
    state: 'warning',
    cure: expect.stringContaining('prepare') as string,
  });
  const table = await room.done(['check', config]);
  expect(table).toMatch(/^warning {2}logs +all 59 rows of flawed\.csv$/m);
  expect(table).toMatch(/^ +rejected +3 rows: the column "clicked" holds "\?"/m);
  expect(table).toMatch(/^ +adgroups +8: 4 train, 2 validation, 2 test$/m);
  // As prepare says, after which the store is checked instead.
  expect(await room.done(['prepare', config])).toMatch(/rejected 6\n/);
  expect(await checkedLogs(config)).toMatchObject([
    { requirement: 'task store', state: 'ok', detail: 'none: 8 tasks, 48 rows' },
  ]);
});

test('a column that does not exist, and an expression that is none, are one clear problem each', async () => {
  const unknown = await room.config('unknown', ({ data }) => {
    Object.assign(data, { store: 'nowhere', features: [{ name: 'sites', kind: 'category' }] });
  });
  const ended = await room.ended(['check', unknown]);
  expectFailure(ended, {
    exitCode: 3,
    what: /^1 of 9 requirements is not met$/,
    found: /^logs$/,
    cure: /cures are named above/,
  });
  expect(ended.output).toMatch(
    /^problem {2}logs +the logs have no column "sites"; data\.features\.0\.column, log\.csv; expected one of adgroup, second, site, .*; found "sites"$/m,
  );
  expect(ended.output).toMatch(/cure: correct data\.features\.0\.column: did you mean "site"\?/);
  const broken = await room.config('broken', ({ data }) => {
    Object.assign(data, { store: 'nowhere', label: { expression: 'clicked = = 1' } });
  });
  expect(await checkedLogs(broken)).toMatchObject([
    {
      state: 'problem',
      detail: expect.stringMatching(/^an SQL expression of the config is not valid/) as string,
      cure: expect.stringContaining('correct data.label.expression') as string,
    },
    { state: 'warning' },
  ]);
});

test('of a long log the first rows are a sample, and say nothing of the others', async () => {
  // Adgroups of 6,000 rows, one after another. All users but the first have an end of a line, of which one would be cut. Later
  // rows have no label.
  const rows = Array.from(
    { length: 60_000 },
    (_, row) =>
      `g${Math.floor(row / 6_000)},${row},s1,${row === 0 ? 'u' : '"u\n1"'},30,${row < 40_000 ? Number(row % 4 === 0) : '?'}`,
  );
  await room.write('long.csv.gz', gzipSync([HEADER, ...rows].join('\n')));
  const config = await room.config('long', ({ data }) => {
    Object.assign(data, { logs: 'long.csv.gz', store: 'nowhere', taskSplit: DIVIDED.taskSplit });
  });
  const [logs] = await checkedLogs(config);
  expect(logs).toMatchObject({
    state: 'ok',
    detail: 'a sample, the first 25000 rows, of long.csv.gz',
    logs: { isWhole: false, rowCount: 25_000, rejected: [], division: { taskCount: 5 } },
  });
  await room.write('few.csv', [HEADER, ...GOOD].join('\n'));
  const demanding = await room.config('demanding', ({ data }) => {
    Object.assign(data, {
      ...{ logs: ['few.csv', 'long.csv.gz'], store: 'nowhere' },
      rowSplit: { by: 'time', supportRowsMin: 100_000, supportRowsMax: 100_000 },
    });
  });
  expect((await checkedLogs(demanding))[0]).toMatchObject({
    state: 'warning',
    cure: expect.stringMatching(/an adgroup to train on/) as string,
    logs: { isWhole: false, division: { taskCount: 0 } },
  });
});
