/** What `prune` removes and keeps, on a clock that the test sets, and that it never meets a writer. */

import { beforeEach, describe, expect, test } from 'vitest';
import { pruneBundles } from '../../../coordinator/export/prune-bundles.js';
import { moveLabel } from '../../../shared/bundle/bundle-labels.js';
import { whileRemoving, whileWriting } from '../../../shared/bundle/bundle-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ListedObject } from '../../../shared/storage/object-store.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { publishedBundles } from '../../fixtures/bundle/published-bundles.js';

const HOUR_MS = 3_600_000;

/** Objects have the age that the test gave them; those put since are new. */
class AgedStore extends MemoryObjectStore {
  readonly #ages = new Map<string, number>();

  async age(hours: number): Promise<void> {
    for (const key of await this.list(''))
      this.#ages.set(key, (this.#ages.get(key) ?? 0) + hours * HOUR_MS);
  }

  override async listWithTimes(prefix: string): Promise<ListedObject[]> {
    const nowMs = 1_000_000 * HOUR_MS;
    return (await this.list(prefix)).map((key) => ({
      key,
      modifiedMs: nowMs - (this.#ages.get(key) ?? 0),
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
    const [gone] = await publishedBundles(store, ['f']);
    await moveLabel(store, 'stable', gone!);
    await moveLabel(store, 'stable', oldest!);
    await moveLabel(store, 'stable', last!);
    await moveLabel(store, 'latest', newest!);
    await store.put('blobs/leftover', new Uint8Array(3), { kind: 'always' });
    await store.age(25);
    const dry = await pruneBundles(store, { ...CHOICE, dryRun: true });
    expect((await digestsIn()).length).toBe(5);
    const pruned = await pruneBundles(store, CHOICE);
    expect({ ...pruned, isDryRun: true }).toEqual(dry);
    // Bundle b was never named, and f is two back.
    expect(await digestsIn()).toEqual([oldest!, last!, newest!].sort());
    // A file of each, one that all have in common, and the leftover is gone.
    expect((await store.list('blobs/')).length).toBe(4);
    expect(pruned).toMatchObject({ removedFileCount: 3, keptBundleCount: 3, keptFileCount: 4 });
    expect(await store.list('removing.json')).toEqual([]);
  });

  test('does not begin while a bundle is being written, and no writing begins meanwhile', async () => {
    await publishedBundles(store, ['a']);
    await store.age(25);
    await whileWriting(store, async () => {
      await expect(pruneBundles(store, CHOICE)).rejects.toThrow(/a bundle is being written/);
    });
    await whileRemoving(store, CHOICE.graceMs, async () => {
      await expect(whileWriting(store, () => Promise.resolve())).rejects.toThrow(/being removed/);
      await expect(pruneBundles(store, CHOICE)).rejects.toThrow(/by another command/);
    });
    expect((await digestsIn()).length).toBe(1);
    expect((await pruneBundles(store, CHOICE)).removedBundles.length).toBe(1);
    expect(await store.list('writers/')).toEqual([]);
  });

  test('takes no notice of a writer that was killed', async () => {
    const elsewhere = { ...thisProcess(), host: 'another machine' };
    const ended = { ...thisProcess(), startTicks: 'of an earlier process' };
    const put = (key: string, identity: object): Promise<unknown> =>
      store.put(key, Buffer.from(JSON.stringify(identity)), { kind: 'always' });
    await put('writers/ended.json', ended);
    await pruneBundles(store, CHOICE);
    await put('writers/elsewhere.json', elsewhere);
    await expect(pruneBundles(store, CHOICE)).rejects.toThrow(/a bundle is being written/);
    await store.age(25);
    await pruneBundles(store, CHOICE);
    expect(await store.list('writers/')).toEqual([]);
  });
});
