/** The bundles and files that `prune` removes and keeps, on a clock that the test sets. */

import { beforeEach, describe, expect, test } from 'vitest';
import { pruneBundles } from '../../../coordinator/export/prune-bundles.js';
import { moveLabel, rollBackLabel } from '../../../shared/bundle/bundle-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ListedObject } from '../../../shared/storage/object-store.js';
import { publishedBundles } from '../../fixtures/bundle/published-bundles.js';

const HOUR_MS = 3_600_000;
const NOW_MS = 1_000_000 * HOUR_MS;
const clock = { epochMs: () => NOW_MS };

/** Objects have the age that the test gave them; those put since are new. */
class AgedStore extends MemoryObjectStore {
  readonly #ages = new Map<string, number>();

  async age(hours: number): Promise<void> {
    for (const key of await this.list(''))
      this.#ages.set(key, (this.#ages.get(key) ?? 0) + hours * HOUR_MS);
  }

  override async listWithTimes(prefix: string): Promise<ListedObject[]> {
    return (await this.list(prefix)).map((key) => ({
      key,
      modifiedMs: NOW_MS - (this.#ages.get(key) ?? 0),
      byteCount: 0,
    }));
  }
}

const CHOICE = { keptEarlierCount: 1, graceMs: 24 * HOUR_MS, dryRun: false };

let store: AgedStore;
beforeEach(() => {
  store = new AgedStore();
});

const digestsIn = async (): Promise<string[]> =>
  (await store.list('manifests/')).map((key) => key.slice('manifests/'.length, -'.json'.length));

describe('prune', () => {
  test('keeps what labels name and lately named', async () => {
    const [oldest, , last] = await publishedBundles(store, ['a', 'b', 'c']);
    const [newest] = await publishedBundles(store, ['d']);
    const [left] = await publishedBundles(store, ['e']);
    const [gone] = await publishedBundles(store, ['f']);
    await moveLabel(store, 'stable', gone!);
    await moveLabel(store, 'stable', oldest!);
    await moveLabel(store, 'stable', last!);
    await moveLabel(store, 'latest', newest!);
    await moveLabel(store, 'latest', left!);
    await rollBackLabel(store, 'latest');
    await store.put('blobs/leftover', new Uint8Array(3), { kind: 'always' });
    await store.age(25);
    const dry = await pruneBundles(store, { ...CHOICE, dryRun: true }, clock);
    expect((await digestsIn()).length).toBe(6);
    const pruned = await pruneBundles(store, CHOICE, clock);
    expect({ ...pruned, isDryRun: true }).toEqual(dry);
    // Bundle b was never named, and f is two back.
    expect(await digestsIn()).toEqual([oldest!, last!, newest!, left!].sort());
    // A file of each, one that all have in common, and the leftover is gone.
    expect((await store.list('blobs/')).length).toBe(5);
    expect(pruned).toMatchObject({ removedFileCount: 3, keptBundleCount: 4, keptFileCount: 5 });
  });

  test('keeps what is young, whatever names it', async () => {
    const [old] = await publishedBundles(store, ['a']);
    await store.age(25);
    const [young] = await publishedBundles(store, ['b']);
    await store.put('blobs/underway', new Uint8Array(3), { kind: 'always' });
    const { removedBundles } = await pruneBundles(store, CHOICE, clock);
    expect(removedBundles).toEqual([old]);
    expect(await digestsIn()).toEqual([young]);
    expect(await store.list('blobs/underway')).toEqual(['blobs/underway']);
  });
});
