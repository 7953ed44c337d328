/** Names of tasks and values of features: as they are written, with a warning where some differ only in case or spaces, or by an expression. */

import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { warningsOf } from '../../fixtures/told.js';
import { prepareRoom, type PrepareRoom } from '../../fixtures/stores/prepared-store.js';
import { codeOf } from '../../../test/fixtures/told.js';
import { tasksAlike, valuesAlike } from '../../../coordinator/prepare/prepare-messages.js';

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

const Cure = z.strictObject({ expression: z.string() });

const alike = (): unknown[] => room.events.filter((event) => codeOf(event) === 'tasks-alike');

test('names that differ only in case or spaces are other tasks, and that is said', async () => {
  await room.write('log.csv', LOG);
  const manifest = await room.prepare(room.config({}));
  expect(manifest).toMatchObject({ taskCount: 5, taskColumns: ['ad'] });
  expect(alike()).toEqual([tasksAlike({ taskCount: 3, names: ['A', 'a '] })]);
});

test('names that differ only in the number or the kind of their spaces are said, with an expression that makes one of them', async () => {
  const log = LOG.replaceAll('b,s', 'new shoes,s').replaceAll('c,s', 'New  shoes\u00a0,s');
  await room.write('log.csv', log.replaceAll(/^[aA] ?,.*\n/gm, ''));
  await room.prepare(room.config({}));
  const names = ['New  shoes\u00a0', 'new shoes'] as const;
  expect(alike()).toEqual([tasksAlike({ taskCount: 2, names })]);
  const said = warningsOf(room.events).find((text) => text.includes('data.task')) ?? '';
  const cure = Cure.parse(parse(/\{ expression.*\}$/.exec(said)?.[0] ?? ''));
  const task = { expression: cure.expression.replace('name', 'ad') };
  const manifest = await room.prepare(room.config({ task }), { force: true });
  expect(manifest).toMatchObject({ taskCount: 1 });
});

test('values of features that differ only in case or spaces are said, each feature by itself', async () => {
  await room.write(
    'log.csv',
    'ad,os,topics,clicked\na,ios,news; film,1\na,IOS,film,0\nb,web,news,1\nb,ios ,,0\n',
  );
  const features = [
    { name: 'device', column: 'os', kind: 'category' },
    { name: 'topics', kind: 'bag', separator: ';' },
    { name: 'ad', kind: 'category' },
    { name: 'hashed', column: 'os', kind: 'category', hashBuckets: 10 },
  ];
  await room.prepare(room.config({ features }));
  expect(room.events.filter((event) => codeOf(event) === 'values-alike')).toEqual([
    valuesAlike({ feature: 'device', valueCount: 3, values: ['IOS', 'ios '] }),
    valuesAlike({ feature: 'topics', valueCount: 2, values: [' film', 'film'] }),
  ]);
});

test('an expression makes one task of them', async () => {
  await room.write('log.csv', `${LOG}   ,s,1\n`);
  const task = { expression: 'lower(trim(ad))' };
  const manifest = await room.prepare(room.config({ task }));
  expect(manifest).toMatchObject({
    ...{ taskCount: 3, rowCount: 20, rejectedRowCount: 1, taskColumns: ['lower(trim(ad))'] },
  });
  expect(alike()).toEqual([]);
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

test('columns in expressions whose names differ in the case of letters beyond ASCII are two', async () => {
  const lines = ['x,p,1,1', 'x,p,2,0'].map((line) => `${line}\n${line}\n`);
  await room.write('log.csv', `site,Été,été,clicked\n${lines.join('')}`);
  const task = { expression: `"Été" || '-' || "été"` };
  await room.prepare(room.config({ task }));
  const store = await openTaskStore(room.path('store'), {});
  await store.close();
  expect(store.tasks.map(({ key }) => key)).toEqual(['p-1', 'p-2']);
});

test('numbers that are no ids are read as they were: with fractions, or within what a double holds', async () => {
  const columns = { price: ['1781234567890123456', '0.5'], hour: ['7', 'none'] };
  for (const [column, [first, second]] of Object.entries(columns)) {
    await room.write(
      'log.csv',
      `ad,clicked,${column}\na,1,${first}\na,0,${second}\na,1,${first}\n`,
    );
    const features = [{ name: 'f', kind: 'category', expression: `CAST(${column} AS VARCHAR)` }];
    await room.prepare(room.config({ features }));
    const store = await openTaskStore(room.path('store'), {});
    await store.close();
    expect(await store.readColumnTypes?.()).toMatchObject({ [column]: { inferred: 'DOUBLE' } });
  }
});
