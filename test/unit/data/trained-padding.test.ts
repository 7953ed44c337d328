// Empty positions of a bag become members of a dedicated row.

import { expect, test } from 'vitest';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { storeForModel } from '../../../shared/tasks/task-store.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const store = tinyTaskStore({
  taskCount: 3,
  bags: [
    { rowCount: 4, lengthMax: 3 },
    { rowCount: 6, lengthMax: 2 },
  ],
});

test('empty positions get the id after the last, and members keep theirs', async () => {
  const [raw] = await store.readTasks([1]);
  const [padded] = await storeForModel({ padding: 'trained' }, store).readTasks([1]);
  expect(raw!.bagIds.flatMap((ids) => [...ids])).toContain(-1);
  for (const [bag, paddingId] of [4, 6].entries())
    expect([...padded!.bagIds[bag]!]).toEqual(
      [...raw!.bagIds[bag]!].map((id) => (id === -1 ? paddingId : id)),
    );
  expect(
    rowPackLayoutOf([padded!])
      .idsByTable.slice(-2)
      .map((ids) => ids.at(-1)),
  ).toEqual([4, 6]);
  expect({ ...padded, bagIds: [] }).toEqual({ ...raw, bagIds: [] });
});

test.each(['masked', undefined] as const)('%s: the store is unchanged', (padding) => {
  expect(storeForModel({ padding }, store)).toBe(store);
});
