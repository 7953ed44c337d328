// Logs that another engine has grouped by task and ordered by time, as infra/examples/group_logs_spark.py
// does. They give the tasks and rows that prepare makes of the unordered logs.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { formatFailure } from '../../../shared/base/errors.js';
import { systemCodeOf } from '../../../shared/base/system-errors.js';
import { failureOf } from '../../fixtures/failures.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { runInDuckDb } from '../../fixtures/duckdb-for-test.js';

const SPARK_JOB = fileURLToPath(
  new URL('../../../infra/examples/group_logs_spark.py', import.meta.url),
);
// More than a thread of DuckDB takes at a time, so that rows would arrive out of order if nothing held it.
const ROW_COUNT = 400_000;

const room = roomOfEachTest();

/** Times are unique, so that one order of each task's rows is the right one. */
const logOf = (rowCount: number): string =>
  `SELECT printf('ad%05d', md5_number_lower('ad' || i) % 997) AS ad, 's' || (i % 31) AS site,
    (md5_number_lower('price' || i) % 100000) / 7.0 AS price, CAST(i AS BIGINT) AS at,
    CAST(md5_number_lower('click' || i) % 5 = 0 AS INTEGER) AS clicked FROM range(${rowCount}) r(i)`;

const DATA = {
  time: 'at',
  rowSplit: { by: 'time', supportRowsMax: 150, queryRowsMax: 100 },
  features: [
    { name: 'site', kind: 'category' },
    { name: 'price', kind: 'number', scale: 'log-standard' },
  ],
};

/** Key, size and rows of each task in order of the keys, without the numbers that rows have in their logs. */
async function contentOf(data: Record<string, unknown>) {
  await room.prepare(room.config({ ...DATA, ...data }), { force: true });
  const { tasks, rows } = await room.stored();
  return tasks
    .map(({ key, supportRowCount, queryRowCount }, index) => {
      const { logRows: _logRows, taskIndex: _taskIndex, ...values } = rows[index]!;
      return { key, supportRowCount, queryRowCount, values };
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

test('grouped Parquet of several files gives the rows of the unordered logs', async () => {
  await runInDuckDb(`COPY (${logOf(ROW_COUNT)}) TO '${room.path('log.parquet')}'`);
  const expected = await contentOf({ logs: room.path('log.parquet') });
  expect(expected.length).toBe(997);
  for (const part of [0, 1])
    await runInDuckDb(
      `COPY (SELECT * FROM '${room.path('log.parquet')}' WHERE (ad < 'ad00500') = (${part} = 0)
        ORDER BY ad DESC, "at") TO '${room.path(`part-${part}.parquet`)}'`,
    );
  const logs = [room.path('part-0.parquet'), room.path('part-1.parquet')];
  const found = await contentOf({ logs, grouped: true });
  // The sums of mean and deviation run in another order, so the last bit of a scaled price may differ.
  expect(found.map(({ values: _values, ...task }) => task)).toEqual(
    expected.map(({ values: _values, ...task }) => task),
  );
  for (const [index, { values }] of found.entries()) {
    expect(values.categoryIds).toEqual(expected[index]!.values.categoryIds);
    expect(values.clicks).toEqual(expected[index]!.values.clicks);
  }
});

test('a row that is earlier than the row before it is named with its file', async () => {
  await room.write('a.csv', 'ad,site,price,at,clicked\na,x,1,1,1\na,x,1,2,0\n');
  await room.write('b.csv', 'ad,site,price,at,clicked\nb,x,1,5,1\nb,x,1,7,0\nb,x,1,6,0\n');
  const logs = [room.path('a.csv'), room.path('b.csv')];
  const failure = await failureOf(room.prepare(room.config({ ...DATA, logs, grouped: true })));
  expect(failure.kind).toBe('data');
  expect(formatFailure(failure)).toMatch(
    /not in order of time[^]*b\.csv, row 3, task "b"[^]*7 or later[^]*6/,
  );
});

test('the Spark job is valid Python', async (context) => {
  const compile = `import ast, sys; ast.parse(open(sys.argv[1]).read())`;
  const { stdout } = await promisify(execFile)('python3', [
    '-c',
    `${compile}; print('valid')`,
    SPARK_JOB,
  ]).catch((error: unknown) => {
    if (systemCodeOf(error) === 'ENOENT') context.skip('there is no python3 on this machine');
    throw error;
  });
  expect(stdout).toBe('valid\n');
});
