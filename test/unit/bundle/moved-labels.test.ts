/** The labels of a bundle move together to the one that was made of it, but for those that somebody else moves. */

import { expect, it } from 'vitest';
import { moveLabelsFrom } from '../../../coordinator/export/upkeep/move-labels.js';
import { moveLabel, readLabel } from '../../../shared/bundle/bundle-labels.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';

const [FROM, TO, OTHER] = ['a'.repeat(64), 'b'.repeat(64), 'c'.repeat(64)];

/** A store in which somebody else moves a label once all labels were read. */
class ContestedStore extends MemoryObjectStore {
  contested = '';
  #getCount = 0;

  override async get(key: string): ReturnType<MemoryObjectStore['get']> {
    this.#getCount += this.contested === '' ? 0 : 1;
    if (this.#getCount === 4 && this.contested !== '') {
      const label = this.contested;
      this.contested = '';
      await moveLabel(this, label, OTHER);
    }
    return super.get(key);
  }
}

it('moves the other labels where one was moved meanwhile, and says which', async () => {
  const store = new ContestedStore('bundles');
  for (const label of ['canary', 'latest', 'stable']) await moveLabel(store, label, FROM);
  store.contested = 'canary';
  await expect(moveLabelsFrom(store, FROM, TO)).rejects.toMatchObject({
    report: {
      kind: 'failed',
      expected: `canary at ${FROM.slice(0, 12)}`,
      found: 'moved by others: canary; moved to the new bundle: latest, stable',
    },
  });
  const pointed = ['canary', 'latest', 'stable'].map(async (label) => {
    return (await readLabel(store, label))?.bundle;
  });
  expect(await Promise.all(pointed)).toEqual([OTHER, TO, TO]);
  expect(await moveLabelsFrom(store, OTHER, TO)).toEqual(['canary']);
});
