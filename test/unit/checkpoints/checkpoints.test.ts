/** Checkpoints over a store in memory: writing, failures, damage, syncs, refusals, retention. */

import { relative } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { CHECKPOINT_FORMAT_VERSION } from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { formatFailure, QianmoError } from '../../../shared/base/errors.js';
import { writeDurably } from '../../../shared/storage/file-bytes.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { expectFailureOf } from '../../fixtures/failures.js';
import { openedForEach } from '../../fixtures/opened.js';
import {
  checkpointsIn,
  FailingStore,
  manifestOf,
  overwrite,
  textOf,
} from '../../fixtures/stores/checkpoint-stores.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';

describe('damage', () => {
  let store: MemoryObjectStore;
  let newest: string;
  beforeEach(async () => {
    store = new MemoryObjectStore();
    const writer = checkpointsIn(store);
    await writer.write(stateAt(1));
    newest = (await writer.write(stateAt(2))).address;
  });
  const keyOf = (address: string): string => address.slice(store.address.length + 1);

  const damages: [string, () => Promise<void>][] = [
    ['manifest missing', () => store.delete(keyOf(newest))],
    [
      'manifest tampered with',
      async () =>
        overwrite(
          store,
          keyOf(newest),
          (await textOf(store, keyOf(newest))).replace('"outerStep": 2', '"outerStep": 9'),
        ),
    ],
    [
      'dense blob missing',
      async () => store.delete(`blobs/${(await manifestOf(store, newest)).dense.sha256}`),
    ],
    [
      'table piece with one bit flipped',
      async () => {
        const { sha256 } = (await manifestOf(store, newest)).tables[0]!.pieces[0]!.blob;
        const { bytes } = (await store.get(`blobs/${sha256}`))!;
        bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
        await store.put(`blobs/${sha256}`, bytes, { kind: 'always' });
      },
    ],
  ];

  it.each(damages)('%s: warns and continues from the one before it', async (_, damage) => {
    await damage();
    const reader = checkpointsIn(store);
    const state = (await reader.latest())!;
    expect(bitsOf(state)).toEqual(bitsOf(stateAt(1)));
    expect(reader.warnings).toHaveLength(2);
    expect(reader.warnings[0]).toContain(newest);
    expect(reader.warnings[1]).toContain('continuing from the checkpoint of outer step 1');
    await reader.write(stateAt(2));
    const second = checkpointsIn(store);
    expect(bitsOf((await second.latest())!)).toEqual(bitsOf(stateAt(2)));
    expect(second.warnings).toEqual([]);
  });

  it.each([
    ['garbage', 'not json'],
    ['of another shape', `{"formatVersion":${CHECKPOINT_FORMAT_VERSION}}`],
  ])('pointer %s: warns and finds the newest by listing', async (_, text) => {
    await overwrite(store, 'latest.json', text);
    const reader = checkpointsIn(store);
    expect(bitsOf((await reader.latest())!)).toEqual(bitsOf(stateAt(2)));
    expect(reader.warnings[0]).toContain('the pointer to a checkpoint cannot be read');
    await reader.write(stateAt(3));
    expect((await checkpointsIn(store).latest())!.outerStep).toBe(3);
  });

  it('nothing whole: fails, names every fault, and does not start from scratch', async () => {
    for (const key of await store.list('blobs/')) await store.delete(key);
    const failure: unknown = await checkpointsIn(store)
      .latest()
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({
      kind: 'data',
      report: { what: 'there are checkpoints, but none is complete' },
    });
    const text = formatFailure(failure as QianmoError);
    expect(text.match(/is not there/g)).toHaveLength(2);
    expect(text).toContain('--fresh');
  });

  it('a checkpoint of a later format is refused, not skipped', async () => {
    await overwrite(store, keyOf(newest), `{"formatVersion":${CHECKPOINT_FORMAT_VERSION + 1}}`);
    await expectFailureOf(checkpointsIn(store).latest(), 'environment', {
      expected: `format ${CHECKPOINT_FORMAT_VERSION}`,
      found: `format ${CHECKPOINT_FORMAT_VERSION + 1}`,
    });
  });
});

const spec = tinySpec();
const stateAt = (outerStep: number): ReturnType<typeof tinyState> => tinyState(spec, outerStep);

/** Asserts that every object referenced from latest.json exists. */
async function expectNoDanglingPointer(store: ObjectStore): Promise<void> {
  const keys = new Set(await store.list(''));
  if (!keys.has('latest.json')) return;
  const latest = JSON.parse(await textOf(store, 'latest.json')) as { manifest: string };
  expect(keys).toContain(latest.manifest);
  const named = (await textOf(store, latest.manifest)).matchAll(/"sha256": "([0-9a-f]{64})"/g);
  for (const [, sha256] of named) expect(keys).toContain(`blobs/${sha256 ?? ''}`);
}

describe('write and latest', () => {
  it('does not write the same state again, before or after a resume', async () => {
    const store = new FailingStore();
    const writer = checkpointsIn(store);
    const receipt = await writer.write(stateAt(5));
    const putCount = store.putCount;
    expect(await writer.write(stateAt(5))).toEqual(receipt);
    const resumed = checkpointsIn(store);
    await resumed.latest();
    expect(await resumed.write(stateAt(5))).toEqual(receipt);
    expect(store.putCount).toBe(putCount);
  });

  it('uploads only the changed pieces, also after a resume', async () => {
    const store = new FailingStore();
    await checkpointsIn(store).write(stateAt(5));
    const resumed = checkpointsIn(store);
    const state = (await resumed.latest())!;
    store.failAtPut(0);
    const [name, table] = [...state.metaParameters.tables][0]!;
    table.values[3 * 3] = 42;
    await resumed.write({ ...state, outerStep: 6 });
    const kinds = store.putKeys.map((key) => key.split('/')[0]);
    // Row 3 is in the second piece; the dense blob did not change.
    expect(kinds).toEqual(['blobs', 'manifests', 'latest.json']);
    expect((await checkpointsIn(store).latest())!.metaParameters.tables.get(name)!.values[9]).toBe(
      42,
    );
  });
});

it.each([
  ['before it took place', false],
  ['after it took place unheard', true],
])(
  'a failure at any put, %s, leaves the previous checkpoint readable and can be retried',
  async (_, isAfterwards) => {
    let failureCount = 0;
    for (let failAt = 1; ; failAt += 1) {
      const store = new FailingStore();
      const writer = checkpointsIn(store);
      await writer.write(stateAt(1));
      store.failAtPut(failAt, isAfterwards);
      const outcome: unknown = await writer.write(stateAt(2)).catch((error: unknown) => error);
      await expectNoDanglingPointer(store);
      const reader = checkpointsIn(store);
      const found = (await reader.latest())!;
      expect(reader.warnings).toEqual([]);
      if (!(outcome instanceof Error)) {
        expect(bitsOf(found)).toEqual(bitsOf(stateAt(2)));
        break;
      }
      failureCount += 1;
      expect(outcome).toMatchObject({ kind: 'transient' });
      const expectedStep = isAfterwards && store.putKeys.at(-1) === 'latest.json' ? 2 : 1;
      expect(bitsOf(found)).toEqual(bitsOf(stateAt(expectedStep)));
      await writer.write(stateAt(2));
      await writer.write(stateAt(3));
      expect(bitsOf((await checkpointsIn(store).latest())!)).toEqual(bitsOf(stateAt(3)));
    }
    // The dense blob, a changed first piece per non-empty table and the moments, manifest,
    // latest.
    expect(failureCount).toBeGreaterThanOrEqual(6);
  },
);

describe('two coordinators of one run', () => {
  it('the one that was replaced fails, says so and leaves the other checkpoint unchanged', async () => {
    const store = new MemoryObjectStore();
    const zombie = checkpointsIn(store);
    await zombie.write(stateAt(1));
    const successor = checkpointsIn(store);
    await successor.latest();
    await successor.write(stateAt(2));
    const keysBefore = await store.list('');
    const failure: unknown = await zombie.write(stateAt(3)).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(QianmoError);
    expect(formatFailure(failure as QianmoError)).toContain(
      'another coordinator wrote a checkpoint of run tiny during this run',
    );
    expect(failure).toMatchObject({ kind: 'taken' });
    expect(await store.list('')).toEqual(keysBefore);
    expect((await checkpointsIn(store).latest())!.outerStep).toBe(2);
    await successor.write(stateAt(4));
  });

  it('exactly one of many concurrent writers wins, whatever they write', async () => {
    const store = new MemoryObjectStore();
    await checkpointsIn(store).write(stateAt(1));
    const rivals = Array.from({ length: 5 }, () => checkpointsIn(store));
    for (const rival of rivals) await rival.latest();
    const outcomes = await Promise.allSettled(
      rivals.map((rival, index) => rival.write(stateAt(index < 3 ? 2 : 3))),
    );
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1);
    await expectNoDanglingPointer(store);
    expect(await store.list('manifests/')).toHaveLength(2);
    const reader = checkpointsIn(store);
    expect(await reader.latest()).not.toBeNull();
    expect(reader.warnings).toEqual([]);
  });
});

describe('another run', () => {
  let store: MemoryObjectStore;
  beforeEach(async () => {
    store = new MemoryObjectStore();
    await checkpointsIn(store).write(stateAt(2));
  });

  it('is replaced by a run that starts again', async () => {
    const fresh = checkpointsIn(store, { configHash: 'hash-2', deciding: { seed: 2 } });
    await fresh.write(stateAt(1));
    const resumed = checkpointsIn(store, { configHash: 'hash-2', deciding: { seed: 2 } });
    expect(bitsOf((await resumed.latest())!)).toEqual(bitsOf(stateAt(1)));
    expect(await store.list('manifests/')).toHaveLength(1);
  });
});

describe('retention', () => {
  it('keeps the newest and exactly the blobs that they name', async () => {
    const store = new MemoryObjectStore();
    const writer = checkpointsIn(store, { kept: 2 });
    await overwrite(store, 'notes.txt', 'mine');
    await overwrite(store, 'blobs/not-ours', 'mine');
    await overwrite(store, 'manifests/notes.json', 'mine');
    for (let outerStep = 1; outerStep <= 5; outerStep += 1) await writer.write(stateAt(outerStep));
    const manifests = await store.list('manifests/0');
    expect(manifests.map((key) => key.slice(10, 19))).toEqual(['000000004', '000000005']);
    const named = new Set<string>();
    for (const key of manifests)
      for (const [, sha256] of (await textOf(store, key)).matchAll(/"sha256": "([0-9a-f]{64})"/g))
        named.add(`blobs/${sha256 ?? ''}`);
    expect(await store.list('')).toEqual(
      [
        ...named,
        ...manifests,
        'blobs/not-ours',
        'latest.json',
        'manifests/notes.json',
        'notes.txt',
      ].sort(),
    );
  });

  it('keeps the manifest of a successor that is about to become the latest', async () => {
    const store = new MemoryObjectStore();
    const writer = checkpointsIn(store, { kept: 1 });
    await writer.write(stateAt(1));
    const elsewhere = new MemoryObjectStore();
    await checkpointsIn(elsewhere).write(stateAt(9));
    for (const key of await elsewhere.list(''))
      if (key !== 'latest.json')
        await store.put(key, (await elsewhere.get(key))!.bytes, { kind: 'always' });
    await writer.write(stateAt(2));
    const missing = (await elsewhere.list('')).filter((key) => key !== 'latest.json');
    expect(await store.list('')).toEqual(expect.arrayContaining(missing));
  });

  describe('of a checkpoint that was cut off', () => {
    let nowMs: number;
    let store: FailingStore;
    beforeEach(async () => {
      nowMs = 1_700_000_000_000;
      store = new FailingStore('store', { epochMs: () => nowMs });
      const killed = checkpointsIn(store);
      await killed.write(stateAt(1));
      store.failAtPut(4);
      await expect(killed.write(stateAt(2))).rejects.toThrow('broke off');
    });
    const blobsOfStore = async (): Promise<string[]> => store.list('blobs/');
    const namedBlobs = async (): Promise<Set<string>> => {
      const named = new Set<string>();
      for (const key of await store.list('manifests/'))
        for (const [, sha256] of (await textOf(store, key)).matchAll(/"sha256": "([0-9a-f]{64})"/g))
          named.add(`blobs/${sha256 ?? ''}`);
      return named;
    };

    it('removes the blobs when they are old, once it has written a checkpoint itself', async () => {
      const cutOff = (await blobsOfStore()).length - (await namedBlobs()).size;
      expect(cutOff).toBe(3);
      await store.put('blobs/of-another', Buffer.from('x'), { kind: 'always' });
      const successor = checkpointsIn(store);
      await successor.latest();
      nowMs += 3_000_000;
      await successor.write(stateAt(3));
      expect((await blobsOfStore()).length - (await namedBlobs()).size).toBe(cutOff + 1);
      nowMs += 1_000_000;
      await successor.write(stateAt(4));
      expect(new Set(await blobsOfStore())).toEqual(
        new Set([...(await namedBlobs()), 'blobs/of-another']),
      );
    });

    it('keeps them while there is a manifest that cannot be read', async () => {
      const successor = checkpointsIn(store);
      await successor.latest();
      await store.put('manifests/000000009-01234567.json', Buffer.from('{'), { kind: 'always' });
      nowMs += 4_000_000;
      const before = (await blobsOfStore()).length - (await namedBlobs()).size;
      await successor.write(stateAt(3));
      expect((await blobsOfStore()).length - (await namedBlobs()).size).toBe(before);
    });
  });
});

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
