// Values outside of a dictionary get ids by hash, which come before those of the dictionary and stay when it grows.
import { expect, test } from 'vitest';
import { hashBucketOf } from '../../../shared/features/packed-dictionary.js';
import { encoderOfStore } from '../../fixtures/encoded-store.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

const BUCKETS = 50;
const HEADER = 'ad,site,at,clicked\n';
const bucketOf = (value: string): number => hashBucketOf(value, BUCKETS + 1);
const configOf = () =>
  room.config({
    ...{ time: 'at', rowSplit: { by: 'time' } },
    features: [{ name: 'site', kind: 'category', countMin: 2, unseenBuckets: BUCKETS }],
  });

async function idsByRow(): Promise<number[]> {
  const ids: number[] = [];
  for (const { logRows, categoryIds } of (await room.stored()).rows)
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
  await room.append(configOf(), 'late.csv');
  expect(await idsByRow()).toEqual([
    ...[...expected, BUCKETS + 3, BUCKETS + 3, bucketOf('rare'), bucketOf('other')],
  ]);
  const dictionary = await (await room.stored()).readDictionary?.('site');
  expect(dictionary?.slice(0, BUCKETS + 1).every((value) => value === null)).toBe(true);
  expect(dictionary?.slice(BUCKETS + 1)).toEqual(['news', 'shop', 'fresh']);
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
    const { rows } = await room.stored();
    return rows.map((task) => [...task.numbers.flatMap((values) => [...values])]);
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
