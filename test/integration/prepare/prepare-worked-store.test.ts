// A log small enough to work out by hand, and the expected store.
import { expect, test } from 'vitest';
import { readFile } from 'node:fs/promises';
import { tableFromIPC } from 'apache-arrow';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

const LOG = `ad,site,tags,price,at,clicked
b,news,x|y,1,40,1
a,news,x,3,30,0
a,shop,,5,10,1
b,news,y|z|x,1,20,0
a,game,z,7,20,0
a,news,x|x,9,40,1
c,rare,x,2,10,1
`;

test('a worked log becomes the store worked out by hand', async () => {
  await room.write('log.csv', LOG);
  const config = room.config({
    time: 'at',
    rowSplit: { by: 'time', supportShare: 0.5 },
    features: [
      { name: 'site', kind: 'category' },
      { name: 'tags', kind: 'bag', lengthMax: 2 },
      { name: 'price', kind: 'number' },
      { name: 'priceBucket', kind: 'number', column: 'price', scale: 'log-bucket' },
    ],
  });
  const manifest = await room.prepare(config);
  expect(manifest.taskCount).toBe(2);
  expect(manifest.rowCount).toBe(6);
  expect(manifest.leftOut).toMatchObject({ tooSmallTaskCount: 1, tooSmallRowCount: 1 });
  const { tasks, rows } = await room.stored();
  expect(tasks).toEqual([
    {
      taskIndex: 0,
      key: 'a',
      split: 'train',
      supportRowCount: 2,
      queryRowCount: 2,
      firstSeenTime: 10,
    },
    {
      taskIndex: 1,
      key: 'b',
      split: 'train',
      supportRowCount: 1,
      queryRowCount: 1,
      firstSeenTime: 20,
    },
  ]);
  const [a, b] = rows;
  // Rows in time order: a has rows 2, 4, 1, 5 and b rows 3, 0.
  expect([...a!.logRows]).toEqual([2, 4, 1, 5]);
  expect([...b!.logRows]).toEqual([3, 0]);
  expect([...a!.times]).toEqual([10, 20, 30, 40]);
  expect([...b!.times]).toEqual([20, 40]);
  // news 4 times, then game and shop once each: ids 1, 2, 3.
  expect([...a!.categoryIds[0]!]).toEqual([3, 2, 1, 1]);
  // x 5 times, y 2, z 1 (the third member of row 3 is beyond lengthMax 2, so z is y|z and z: 2).
  expect([...a!.bagIds[0]!]).toEqual([-1, -1, 3, -1, 1, -1, 1, 1]);
  expect([...b!.bagIds[0]!]).toEqual([2, 3, 1, 2]);
  // Prices 1, 3, 5, 1, 7, 9: mean 26/6, population deviation sqrt(166/6 - mean^2).
  const mean = 26 / 6;
  const deviation = Math.sqrt(166 / 6 - mean * mean);
  for (const [index, price] of [5, 7, 3, 9].entries())
    expect(a!.numbers[0]![index]).toBeCloseTo((price - mean) / deviation, 6);
  // 1 + floor(log2(1 + x)) of 5, 7, 3, 9.
  expect([...a!.categoryIds[1]!]).toEqual([3, 4, 3, 4]);
  expect([...a!.clicks]).toEqual([1, 0, 0, 1]);
  expect([...b!.clicks]).toEqual([0, 1]);
  expect([...a!.impressions]).toEqual([1, 1, 1, 1]);
  const dictionary = tableFromIPC(await readFile(room.path('store/dictionaries/site.arrow')));
  expect(dictionary.getChild('value')!.toJSON()).toEqual([null, 'news', 'game', 'shop']);
});
