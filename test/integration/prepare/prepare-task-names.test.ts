/** Names of tasks: as they are written, or by an expression. */

import { afterEach, beforeEach, expect, test } from 'vitest';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { prepareRoom, type PrepareRoom } from '../../fixtures/stores/prepared-store.js';

let room: PrepareRoom;
beforeEach(async () => {
  room = await prepareRoom();
});
afterEach(() => room.remove());

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
  const plain = await room.prepare(room.config({}), { force: true });
  const rows = ({ files }: typeof manifest) => files.filter(({ name }) => name.endsWith('.arrow'));
  expect(rows(manifest)).toEqual(rows(plain));
});

test('a byte order mark at the start of a name is a part of it', async () => {
  await room.write('log.csv', 'site,ad,clicked\nx,\ufeffa,1\nx,\ufeffa,0\ny,a,1\ny,a,0\n');
  await room.prepare(room.config({}));
  const store = await openTaskStore(room.path('store'), {});
  await store.close();
  expect(store.tasks.map(({ key }) => key)).toEqual(['a', '\ufeffa']);
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
  const store = await openTaskStore(room.path('store'), {});
  await store.close();
  expect(store.tasks.map(({ key }) => key)).toEqual(ids.map((id) => `shop-${id}`));
  expect(await store.readColumnTypes?.()).toMatchObject({
    ad: { log: 'text', inferred: 'BIGINT' },
  });
});

test('ids of 18 digits beside more texts of no number than may be rejected stay apart', async () => {
  const ids = ['120200000000000001', '120200000000000002'];
  const lines = [...ids, ...ids, 'nan', 'nan'].map((ad, row) => `shop,${ad},s,${row % 2}\n`);
  await room.write('log.csv', `account,ad,site,clicked\n${lines.join('')}`);
  const task = { expression: `account || '-' || ad` };
  await room.prepare(room.config({ task, rejectedRowsMax: 1 }));
  const store = await openTaskStore(room.path('store'), {});
  await store.close();
  expect(store.tasks.map(({ key }) => key)).toEqual([...ids, 'nan'].map((id) => `shop-${id}`));
  expect(await store.readColumnTypes?.()).toMatchObject({
    ad: { log: 'text', inferred: 'VARCHAR' },
  });
});
