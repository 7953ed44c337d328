// Rows of a query in chunks, of which the next one is made while one is used.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DuckSession, openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const ROW_COUNT = 2_000_000;
/** One of its rows cannot be made, when most others have been. */
const FAILING = `SELECT CASE WHEN n = 1500000 THEN error('no such row') ELSE n END FROM range(${ROW_COUNT}) t(n)`;

const folder = openedForEach(temporaryFolder);
let session: DuckSession;
let stop: AbortController;
beforeEach(async () => {
  stop = new AbortController();
  session = await openDuckSession(folder.path, 512, stop.signal);
});
afterEach(() => {
  session.close();
});

async function countedBy(sql: string, rowCount: number): Promise<number> {
  let found = 0;
  for await (const chunk of session.chunks(sql, rowCount)) found += chunk.rowCount;
  return found;
}

test('holds all rows in their order, as they were when the next chunk was made', async () => {
  const count = 20_000;
  const sql = `SELECT CAST(n AS INTEGER) FROM range(${count}) t(n) ORDER BY n DESC`;
  const numbers: unknown[] = [];
  for await (const chunk of session.chunks(sql, count)) {
    await new Promise((resolve) => setImmediate(resolve));
    numbers.push(...chunk.getColumnValues(0));
  }
  expect(numbers).toEqual(Array.from({ length: count }, (_, n) => count - 1 - n));
});

// The client returns an empty chunk, as at the end.
test('tells a failure in the middle, and the session goes on', async () => {
  await expect(countedBy(FAILING, ROW_COUNT)).rejects.toMatchObject({
    kind: 'environment',
    message: `DuckDB stopped in the middle of its rows (${folder.path})`,
  });
  expect(await session.row('SELECT true')).toEqual([true]);
});

test('ends as interrupted when it is aborted', async () => {
  const reading = async (): Promise<void> => {
    for await (const chunk of session.chunks('SELECT n FROM range(100000000) t(n)', 100_000_000))
      if (chunk.rowCount > 0) stop.abort();
  };
  await expect(reading()).rejects.toMatchObject({ kind: 'interrupted' });
});
