// The catalog as bytes: which fields of a task are kept, and which fields older stores lack.
import { expect, test } from 'vitest';
import {
  decodeTaskCatalog,
  encodeTaskCatalog,
  type CatalogTask,
} from '../../../shared/tasks/task-catalog.js';

const task: CatalogTask = {
  key: 'a',
  split: 'validation',
  supportRowCount: 3,
  queryRowCount: 4,
  firstSeenTime: 1_700_000_000.25,
  fileIndex: 1,
  batchIndex: 2,
  rowOffset: 5,
};

test('a catalog is read back as it was written', () => {
  const { fileIndex, batchIndex, rowOffset, ...entry } = task;
  const catalog = decodeTaskCatalog(encodeTaskCatalog([task, { ...task, firstSeenTime: -1 }]));
  expect(catalog.tasks).toEqual([
    { ...entry, taskIndex: 0 },
    { ...entry, taskIndex: 1, firstSeenTime: -1 },
  ]);
  expect(catalog.places[1]).toEqual({ fileIndex, batchIndex, rowOffset });
});

test('a catalog without first-seen times is read, and reports that it has none', () => {
  const { tasks } = decodeTaskCatalog(encodeTaskCatalog([{ ...task, firstSeenTime: null }]));
  expect(tasks[0]?.firstSeenTime).toBeNull();
});
