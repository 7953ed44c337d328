// Bags of many rows: each distinct bag is stored once, and every row finds its own. Seen to fail:
// bags distinguished by hash alone, members in any order, a row matched to the previous one by its
// first member.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import {
  DistinctBags,
  localIdsByTable,
  rowBatchOf,
} from '../../worker/compute/models/row-batch.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';

const bag = fc.array(fc.nat(9), { maxLength: 5 });

test('equal lists of members share one index, others get another, in order of first occurrence', () => {
  fc.assert(
    fc.property(fc.array(bag, { maxLength: 400 }), (lists) => {
      const bags = new DistinctBags();
      const names: string[] = [];
      for (const list of lists) {
        const name = list.join();
        if (!names.includes(name)) names.push(name);
        expect(bags.indexOf(list)).toBe(names.indexOf(name));
      }
      expect(bags.count).toBe(names.length);
      const members = names.flatMap((name) => (name === '' ? [] : name.split(',').map(Number)));
      expect(bags.members).toEqual(members);
      for (const [index, name] of names.entries())
        expect(bags.sizeOf(index)).toBe(name === '' ? 0 : name.split(',').length);
    }),
  );
});

test('lists whose sums or first members agree are distinguished, however many there are', () => {
  const bags = new DistinctBags();
  const lists = Array.from({ length: 5_000 }, (_, i) => [i % 7, i, 5_000 - i]);
  expect(lists.map((list) => bags.indexOf(list))).toEqual([...lists.keys()]);
  expect(lists.map((list) => bags.indexOf([...list]))).toEqual([...lists.keys()]);
  expect(bags.count).toBe(5_000);
});

test('every row finds its bag in the positions after the pack, whatever rows share it', async () => {
  const bags = [
    { rowCount: 3, lengthMax: 2 },
    { rowCount: 5, lengthMax: 3 },
  ];
  const store = tinyTaskStore({ taskCount: 6, bags, supportRowCountMax: 9 });
  const tasks = await store.readTasks([0, 1, 2, 3, 4, 5]);
  const layout = rowPackLayoutOf(tasks);
  const packExtent = layout.rowCount + 7;
  const rowExtent = 9;
  const found = new DistinctBags();
  const { tablePlaces } = rowBatchOf(
    { tasks, role: 'support' },
    localIdsByTable(layout),
    { taskCount: 6, rowExtent },
    { bags: found, packExtent },
  );
  const columnCount = 4;
  const starts: number[] = [0];
  for (let index = 0; index < found.count; index += 1)
    starts.push(starts[index]! + found.sizeOf(index));
  const membersAt = (task: number, row: number, column: number): number[] => {
    const place = tablePlaces[(task * rowExtent + row) * columnCount + column]!;
    const index = place - packExtent;
    return found.members.slice(starts[index], starts[index + 1]);
  };
  const expected = (task: TaskRows, row: number, bagPlace: number): number[] => {
    const ids = task.bagIds[bagPlace]!;
    const { lengthMax } = bags[bagPlace]!;
    const own = [...ids.subarray(row * lengthMax, (row + 1) * lengthMax)].filter((id) => id >= 0);
    const table = 2 + bagPlace;
    return own.map((id) => layout.startByTable[table]! + layout.idsByTable[table]!.indexOf(id));
  };
  let rowCount = 0;
  for (const [index, task] of tasks.entries())
    for (let row = 0; row < task.supportRowCount; row += 1)
      for (const place of [0, 1]) {
        expect(membersAt(index, row, 2 + place)).toEqual(expected(task, row, place));
        rowCount += 1;
      }
  expect(found.count).toBeLessThan(rowCount);
});
