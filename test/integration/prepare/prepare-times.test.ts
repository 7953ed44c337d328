/** Times that an expression makes of the columns order the rows as times that are written out do. */

import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { codeOf } from '../../../test/fixtures/told.js';

const room = roomOfEachTest();

/** Days of two months, so that the day first and the month first are different orders. */
const DAYS = ['2026-10-28', '2026-11-02', '2026-10-03', '2026-11-27', '2026-10-11', '2026-11-01'];

/** The files of rows of the store. */
async function storeOf(time: unknown, textOf: (day: string) => string): Promise<unknown> {
  const rows = DAYS.flatMap((day, n) =>
    [0, 1].map((ad) => `ad${ad},s${n},${(n + ad) % 2},${textOf(day)}`),
  );
  await room.write('log.csv', `ad,site,clicked,shown\n${rows.join('\n')}\n`);
  const data = { time, rowSplit: { by: 'time', supportShare: 0.5 } };
  const { files } = await room.prepare(room.config(data), { force: true });
  return files.filter(({ name }) => name.endsWith('.arrow'));
}

test('a time with the day first gives the store of one that is written out', async () => {
  const written = await storeOf('shown', (day) => `${day} 20:15`);
  const local = (day: string): string => `${day.split('-').reverse().join('/')} 20:15`;
  const form = { expression: "strptime(shown, '%d/%m/%Y %H:%M')" };
  expect(await storeOf(form, local)).toEqual(written);
  expect(await storeOf({ expression: '-epoch(shown)' }, (day) => `${day} 20:15`)).not.toEqual(
    written,
  );
});

test('a row whose time the expression does not give is rejected', async () => {
  const form = { expression: "strptime(shown, '%d.%m.%Y')" };
  const textOf = (day: string): string => (day === '2026-11-27' ? '2026-11-27' : '11.10.2026');
  await storeOf(form, textOf);
  const reason = 'the expression of data.time does not give a number or a timestamp';
  expect(await room.rejected()).toMatchObject([8, 9].map((line) => ({ line, reason })));
});

test('a part that fails in two expressions fails on its row alone', async () => {
  const rows = ['2026-10-28 20:15', '29/10/2026 21:15', 'unknown', '2026-10-30 22:15'];
  const lines = rows.map((shown, n) => `a,s,${n % 2},${shown}\n`).join('');
  await room.write('log.csv', `ad,site,clicked,shown\n${lines}`);
  const time =
    "CASE WHEN contains(shown, '/') THEN strptime(shown, '%d/%m/%Y %H:%M') ELSE CAST(shown AS TIMESTAMP) END";
  const manifest = await room.prepare(
    room.config({
      time: { expression: time },
      features: [
        { name: 'hour', kind: 'category', expression: `hour(${time})` },
        { name: 'day', kind: 'category', expression: `day(${time})` },
      ],
    }),
  );
  expect(manifest).toMatchObject({ rowCount: 3, rejectedRowCount: 1 });
});

test('a time in a form of its own: the rejection has a config that reads it', async () => {
  const rows = ['27.11.2026 20:15', '28.11.2026 21:15'].map(
    (shown, n) => `a,s,${n % 2},${shown}\n`,
  );
  await room.write('log.csv', `ad,site,clicked,"shown ""at"" site"\n${rows.join('')}`);
  const rejected = room.prepare(room.config({ time: 'shown "at" site', rejectedRowsMax: 1 }));
  const { found } = await rejected.then(
    () => Promise.reject(new Error('the rows were accepted')),
    (error: unknown) => z.object({ report: z.object({ found: z.string() }) }).parse(error).report,
  );
  const shown = /other forms: (.*?\})\)/.exec(found)?.[1] ?? '';
  const config = z.object({ time: z.object({ expression: z.string() }) }).parse(parse(shown));
  expect(await room.prepare(room.config(config))).toMatchObject({ rowCount: 2 });
});

test('rows with a time that are divided at random are said to be', async () => {
  await room.write('log.csv', 'ad,site,clicked,shown\na,s,1,1\na,t,0,2\n');
  const saidOf = async (data: Record<string, unknown>): Promise<number> => {
    room.events.length = 0;
    await room.prepare(room.config(data), { force: true });
    return room.events.filter((event) => codeOf(event) === 'rows-divided-at-random').length;
  };
  expect(await saidOf({ time: 'shown' })).toBe(1);
  expect(await saidOf({ time: 'shown', rowSplit: { by: 'time' } })).toBe(0);
  expect(await saidOf({})).toBe(0);
});
