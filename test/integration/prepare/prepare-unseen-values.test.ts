// Values outside of a dictionary get ids by hash, which come before those of the dictionary and stay when it grows.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { appendLogs } from '../../../coordinator/prepare/append-logs.js';
import { systemClock } from '../../../shared/base/clock.js';
import { hashBucketOf } from '../../../shared/features/packed-dictionary.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { encoderOfStore } from '../../fixtures/encoded-store.js';
import { prepareRoom, type PrepareRoom } from '../../fixtures/stores/prepared-store.js';

let room: PrepareRoom;
beforeEach(async () => {
  room = await prepareRoom();
});
afterEach(() => room.remove());

const BUCKETS = 50;
const HEADER = 'ad,site,at,clicked\n';
const bucketOf = (value: string): number => hashBucketOf(value, BUCKETS + 1);
const configOf = () =>
  room.config({
    ...{ time: 'at', rowSplit: { by: 'time' } },
    features: [{ name: 'site', kind: 'category', countMin: 2, unseenBuckets: BUCKETS }],
  });

async function idsByRow(): Promise<number[]> {
  const store = await openTaskStore(room.path('store'), {});
  const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));
  await store.close();
  const ids: number[] = [];
  for (const { logRows, categoryIds } of tasks satisfies TaskRows[])
    for (const [place, row] of logRows.entries()) ids[row] = categoryIds[0]![place]!;
  return ids;
}

test('unseen and rare values have buckets, and a dictionary grows behind its values', async () => {
  const sites = ['news', 'news', 'rare', 'news', 'shop', 'shop', '', 'seldom'];
  const rows = sites.map((site, row) => `${row % 2 === 0 ? 'a' : 'b'},${site},${row},${row % 2}\n`);
  await room.write('log.csv', HEADER + rows.join(''));
  const manifest = await room.prepare(configOf());
  expect(manifest.features).toEqual([
    {
      ...{ name: 'site', kind: 'category', rowCount: BUCKETS + 3 },
      encoding: { by: 'dictionary', unseenBuckets: BUCKETS },
    },
  ]);
  const [news, shop] = [BUCKETS + 1, BUCKETS + 2];
  const expected = [news, news, bucketOf('rare'), news, shop, shop, 0, bucketOf('seldom')];
  expect(await idsByRow()).toEqual(expected);
  expect(new Set(expected).size).toBe(5);
  const encoder = await encoderOfStore(configOf(), manifest);
  expect(sites.map((site) => encoder.encode({ site }).categoryIds[0]![0])).toEqual(expected);
  expect(encoder.encode({ site: 'never' }).categoryIds[0]![0]).toBe(bucketOf('never'));

  await room.write('late.csv', `${HEADER}a,fresh,20,1\na,fresh,21,0\nb,rare,22,1\nb,other,23,0\n`);
  await appendLogs(configOf(), [room.path('late.csv')], {
    ...{ clock: systemClock, sink: () => undefined, temporaryFolder: room.path('') },
    signal: new AbortController().signal,
    objectStoreOf: () => {
      throw new Error('there are no buckets');
    },
    openStore: () => openTaskStore(room.path('store'), {}),
  });
  expect(await idsByRow()).toEqual([
    ...[...expected, BUCKETS + 3, BUCKETS + 3, bucketOf('rare'), bucketOf('other')],
  ]);
  const store = await openTaskStore(room.path('store'), {});
  const dictionary = await store.readDictionary?.('site');
  expect(dictionary?.slice(0, BUCKETS + 1).every((value) => value === null)).toBe(true);
  expect(dictionary?.slice(BUCKETS + 1)).toEqual(['news', 'shop', 'fresh']);
  await store.close();
});

test('target encodings across adgroups pool unseen values', async () => {
  const sites = ['news', 'r1', 'r2', 'news', 'r3', 'r4', 'news', 'r5'];
  const rows = sites.map(
    (site, row) => `${'abcd'[row % 4]},${site},${row},${row % 3 === 0 ? 1 : 0}\n`,
  );
  await room.write('log.csv', HEADER + rows.join(''));
  const config = (unseenBuckets?: number) =>
    room.config({
      features: [{ name: 'site', kind: 'category', countMin: 2, unseenBuckets }],
      targetEncodings: { of: ['site'], folds: 2, smoothing: 1 },
    });
  const numbers = async (): Promise<number[][]> => {
    const store = await openTaskStore(room.path('store'), {});
    const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));
    await store.close();
    return tasks.map((task) => [...task.numbers.flatMap((values) => [...values])]);
  };
  await room.prepare(config());
  const asUnknown = await numbers();
  await room.prepare(config(BUCKETS));
  expect(await numbers()).toEqual(asUnknown);
  expect(asUnknown.flat().some((value) => value !== 0)).toBe(true);
});

test('a feature that is hashed has no unseen values', () => {
  const feature = { name: 'site', kind: 'category', hashBuckets: 10, unseenBuckets: 5 };
  expect(() => room.config({ features: [feature] })).toThrow(/leaves no value unseen/);
});
