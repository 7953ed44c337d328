import { expect, it } from 'vitest';
import { inLanes } from '../../bench/in-lanes.js';

const items = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name }));

it('works on all items in order, and on as many at once as there are lanes', async () => {
  const begun: string[] = [];
  let [atOnce, atOnceMost] = [0, 0];
  await inLanes(items, 2, async ({ name }) => {
    begun.push(name);
    atOnceMost = Math.max(atOnceMost, (atOnce += 1));
    await new Promise(setImmediate);
    atOnce -= 1;
  });
  expect(begun).toEqual(['a', 'b', 'c', 'd', 'e']);
  expect(atOnceMost).toBe(2);
});

it('begins nothing after a failure', async () => {
  const begun: string[] = [];
  const done = inLanes(items, 2, async ({ name }) => {
    begun.push(name);
    await Promise.resolve();
    if (name === 'b') throw new Error('b is broken');
  });
  await expect(done).rejects.toThrow('b is broken');
  await new Promise(setImmediate);
  expect(begun).toEqual(['a', 'b', 'c']);
});
