/** The syncs of a checkpoint in a folder: what a slow disk waits for, and in which order. */

import { relative } from 'node:path';
import { expect, it } from 'vitest';
import { writeDurably } from '../../../shared/storage/file-bytes.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { openedForEach } from '../../fixtures/opened.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';

const folder = openedForEach(temporaryFolder);

it('syncs each file once, and each folder once before a name in another one', async () => {
  /** `file`, or the folder relative to that of the store. */
  const syncs: string[] = [];
  const store = new FileObjectStore({
    folder: folder.path,
    write: async (path, bytes) => {
      await writeDurably(path, bytes);
      syncs.push('file');
    },
    sync: (path) => {
      syncs.push(relative(folder.path, path));
      return Promise.resolve();
    },
  });
  const checkpoints = checkpointsIn(store);
  await checkpoints.write(tinyState(tinySpec(), 1));
  const before = new Set(await store.list('blobs/'));
  syncs.length = 0;
  await checkpoints.write(tinyState(tinySpec(), 2));
  const written = (await store.list('blobs/')).filter((key) => !before.has(key));
  expect(written.length).toBeGreaterThan(1);
  expect(syncs).toEqual([
    ...written.map(() => 'file'),
    'blobs',
    ...['file', 'manifests'],
    ...['file', ''],
  ]);
});
