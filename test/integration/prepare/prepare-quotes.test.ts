// Quotes of delimited logs: one that is not closed takes the rows after it for its text, and is an error. Others reject a row.
import { expect, test } from 'vitest';
import { failureTextOf, roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

const ROWS = Array.from({ length: 40 }, (_, n) => `${n % 4},site ${n % 3},${n % 2}`);

/** A log of 40 good rows with these lines after the twentieth. */
async function writeLog(...lines: readonly string[]): Promise<void> {
  const all = ['ad,site,clicked', ...ROWS.slice(0, 20), ...lines, ...ROWS.slice(20)];
  await room.write('log.csv', all.map((line) => `${line}\n`).join(''));
}

const unclosed = [
  ['to the end of the log', ['1,"open,0'], /not closed[^]*line 22\n[^]*20 lines after it/],
  [
    'up to the next quote',
    ['1,"open,0', '2,site 1,1', '3,"closed",0'],
    /not closed[^]*2 lines after it/,
  ],
  [
    'beside a text of two lines',
    ['1,"two\nlines",0', '1,"open,0'],
    /not closed[^]*20 lines after it/,
  ],
] as const;

test.each(unclosed)('a quote that takes rows %s is an error', async (_, lines, found) => {
  await writeLog(...lines);
  expect(await failureTextOf(room.prepare(room.config()))).toMatch(found);
});

test('a quote that takes rows of a log larger than a buffer is an error', async () => {
  const many = Array.from({ length: 500_000 }, (_, n) => `${n % 4},a site ${n % 3},${n % 2}`);
  many[1000] = '1,"open,0';
  await room.write('log.csv', ['ad,site,clicked', ...many, ''].join('\n'));
  expect(await failureTextOf(room.prepare(room.config()))).toMatch(
    /not closed[^]*line 1002[^]*\d{6} lines after it/,
  );
});

const closed = [
  ['after a closed one', ['1,"open"x,0']],
  ['within a quoted text', ['1,"a "b" c",0']],
  ['beside a text of two lines', ['1,"two\nlines",0', '1,"open"x,0']],
  ['beside a rejected text of two lines', ['1,"two\nlines",0,extra', '1,"open"x,0']],
  ['beside an empty line', ['', '1,"open"x,0']],
  ['beside a rejected text whose lines end by CR', ['1,"two\rlines",0,extra', '1,"open"x,0']],
  ['beside a text whose lines end by CR and LF', ['1,"two\r\nlines",0', '1,"open"x,0']],
] as const;

test.each(closed)('a stray quote %s rejects its row', async (_, lines) => {
  await writeLog(...lines);
  const manifest = await room.prepare(room.config());
  expect(JSON.stringify(await room.rejected())).toContain('unterminated quote');
  expect(manifest.rowCount).toBeGreaterThanOrEqual(40);
});
