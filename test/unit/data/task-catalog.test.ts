// The catalog as bytes: which fields of a task are kept, and which fields older stores lack.
import { createHash } from 'node:crypto';
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
  const tasks = [task, { ...task, firstSeenTime: -1 }];
  const catalog = decodeTaskCatalog(encodeTaskCatalog(tasks, tasks));
  expect(catalog.tasks).toEqual([
    { ...entry, taskIndex: 0 },
    { ...entry, taskIndex: 1, firstSeenTime: -1 },
  ]);
  expect(catalog.places[1]).toEqual({ fileIndex, batchIndex, rowOffset });
});

test.each([
  ['ASCII', ['a', '', 'b\u001fc']],
  ['more than ASCII', ['é', '千模', '', 'a', '😀']],
  // Joined, the two halves would be one character.
  ['halves of a character', ['a\ud83d', '\ude00b']],
])('keys of %s are kept apart', (_, keys) => {
  const written = keys.map((key) => ({ ...task, key }));
  const { tasks } = decodeTaskCatalog(encodeTaskCatalog(written, written));
  expect(tasks.map(({ key }) => key)).toEqual(keys.map((key) => Buffer.from(key).toString()));
});

// The digest of a store, which bundles name, follows from these bytes.
test('the bytes of a catalog are those of earlier versions', () => {
  const tasks: CatalogTask[] = ['a', 'zoë', ''].map((key, index) => ({
    ...{ ...task, key, firstSeenTime: index - 0.5, rowOffset: 7 * index },
    ...{ labelIndex: index % 2, ...(index === 1 ? { changedIn: 3 } : {}) },
  }));
  const sha256 = createHash('sha256').update(encodeTaskCatalog(tasks, tasks)).digest('hex');
  expect(sha256).toBe('0c0314a8a693917ca007beac5c526d93d76cc434223991dea5b8795d4a6ae6db');
});
