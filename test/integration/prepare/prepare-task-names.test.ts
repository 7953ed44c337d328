/** Names of tasks: as they are written, or by an expression. */

import { expect, test } from 'vitest';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

/** Ad groups a (three spellings), b and c (one each), with four rows of each spelling. */
const SPELLINGS = ['A', 'a', 'a ', 'b', 'c'];
const LOG = `ad,site,clicked\n${SPELLINGS.flatMap((ad) =>
  [0, 1, 2, 3].map((n) => `${ad},s${n},${n % 2}`),
).join('\n')}\n`;

test('an expression makes one task of them', async () => {
  await room.write('log.csv', `${LOG}   ,s,1\n`);
  const task = { expression: 'lower(trim(ad))' };
  const manifest = await room.prepare(room.config({ task }));
  expect(manifest).toMatchObject({
    ...{ taskCount: 3, rowCount: 20, rejectedRowCount: 1, taskColumns: ['lower(trim(ad))'] },
  });
  const written = SPELLINGS.reduce(
    (log, ad) => log.replaceAll(`${ad},s`, `${ad.trim().toLowerCase()},s`),
    LOG,
  );
  await room.write('log.csv', written);
  const plain = await room.prepare(room.config(), { force: true });
  const rows = ({ files }: typeof manifest) => files.filter(({ name }) => name.endsWith('.arrow'));
  expect(rows(manifest)).toEqual(rows(plain));
});

test.each([
  ['19 digits', ['1781234567890123456', '1781234567890123457'], []],
  ['18 digits beside other texts', ['120200000000000001', '120200000000000002'], ['NA', 'nan']],
])('ids of %s stay apart in an expression', async (_, ids, others) => {
  const lines = [...ids, ...ids, ...others].map((ad, row) => `shop,${ad},s,${row % 2}\n`);
  await room.write('log.csv', `account,ad,site,clicked\n${lines.join('')}`);
  const task = { expression: `account || '-' || CAST(ad AS VARCHAR)` };
  const config = room.config({ task });
  const manifest = await room.prepare(config);
  expect(manifest).toMatchObject({ taskCount: 2, rejectedRowCount: others.length });
  const store = await room.stored();
  expect(store.tasks.map(({ key }) => key)).toEqual(ids.map((id) => `shop-${id}`));
  expect(await store.readColumnTypes?.()).toMatchObject({
    ad: { log: 'text', inferred: 'BIGINT' },
  });
});
