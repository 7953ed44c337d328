/** Labels of bundles on every object store: memory, a folder, a real S3 server. */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  listLabels,
  moveLabel,
  moveLabelFrom,
  readLabel,
  rollBackLabel,
} from '../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { S3ObjectStore } from '../../shared/storage/s3-object-store.js';
import {
  canStartS3,
  S3_SUITE_SUFFIX,
  startS3Buckets,
  type S3Buckets,
} from '../fixtures/stores/s3-buckets.js';
import { temporaryFolder, type TemporaryFolder } from '../fixtures/temporary-folder.js';

const digestOf = (digit: string): string => digit.repeat(64);
const [A, B, C] = ['a', 'b', 'c'].map(digestOf) as [string, string, string];

function conformanceSuite(freshStore: () => Promise<ObjectStore>): void {
  let store: ObjectStore;
  beforeEach(async () => {
    store = await freshStore();
  });

  it('points where it was moved last, and back again', async () => {
    expect(await readLabel(store, 'stable')).toBeNull();
    for (const digest of [A, B, B, C]) await moveLabel(store, 'stable', digest);
    expect(await readLabel(store, 'stable')).toEqual({
      ...{ name: 'stable', bundle: C, earlier: [B, A] },
    });
    expect(await rollBackLabel(store, 'stable')).toEqual({
      ...{ name: 'stable', bundle: B, earlier: [A] },
    });
    await rollBackLabel(store, 'stable');
    await expect(rollBackLabel(store, 'stable')).rejects.toMatchObject({
      report: {
        what: 'the label remembers no bundle before its own',
        found: `it points at ${A}`,
        cure: expect.stringContaining('move the label to one') as string,
      },
    });
    expect((await readLabel(store, 'stable'))!.bundle).toBe(A);
  });

  it('stays where somebody moved it while a bundle was made of the one before', async () => {
    await moveLabelFrom(store, 'stable', { from: null, to: A });
    await moveLabelFrom(store, 'stable', { from: A, to: B });
    await rollBackLabel(store, 'stable');
    await expect(moveLabelFrom(store, 'stable', { from: B, to: C })).rejects.toMatchObject({
      report: {
        kind: 'failed',
        expected: B,
        found: A,
        cure: expect.stringContaining('cccccc') as string,
      },
    });
    await expect(moveLabelFrom(store, 'stable', { from: null, to: C })).rejects.toThrow(
      /moved meanwhile/,
    );
    expect((await readLabel(store, 'stable'))!.bundle).toBe(A);
    // One that was moved there already.
    expect((await moveLabelFrom(store, 'stable', { from: C, to: A })).bundle).toBe(A);
  });

  it('lists labels by name', async () => {
    await moveLabel(store, 'latest', B);
    await moveLabel(store, 'canary', A);
    const listed = await listLabels(store);
    expect(listed.map(({ name, bundle }) => [name, bundle])).toEqual([
      ['canary', A],
      ['latest', B],
    ]);
  });

  // Seen to fail: an unconditional put.
  it('loses no move of several movers at once', async () => {
    const digests = ['0', '1', '2', '3', '4', '5'].map(digestOf);
    await Promise.all(digests.map((digest) => moveLabel(store, 'latest', digest)));
    const { bundle, earlier } = (await readLabel(store, 'latest'))!;
    expect([bundle, ...earlier].sort()).toEqual(digests);
  });

  it('a label that was overwritten is refused', async () => {
    await store.put('labels/latest.json', Buffer.from('{"bundle":'), { kind: 'always' });
    await expect(readLabel(store, 'latest')).rejects.toThrow(/cannot be read/);
    await expect(moveLabel(store, 'latest', A)).rejects.toThrow(/cannot be read/);
  });

  it.each(['', 'Latest', '../x', 'a b', '1st', 'x'.repeat(33)])('"%s" is no name', async (name) => {
    await expect(moveLabel(store, name, A)).rejects.toThrow(/not a name/);
    await expect(readLabel(store, name)).rejects.toThrow(/not a name/);
  });
}

describe('labels in memory', () => {
  conformanceSuite(() => Promise.resolve(new MemoryObjectStore()));
});

describe('labels in a folder', () => {
  let folder: TemporaryFolder;
  let storeCount = 0;
  beforeAll(async () => {
    folder = await temporaryFolder();
  });
  afterAll(() => folder.remove());
  conformanceSuite(() => {
    storeCount += 1;
    return Promise.resolve(new FileObjectStore({ folder: `${folder.path}/${storeCount}` }));
  });
});

describe.skipIf(!canStartS3)(`labels on S3${S3_SUITE_SUFFIX}`, () => {
  let s3: S3Buckets;
  let storeCount = 0;
  beforeAll(async () => {
    s3 = await startS3Buckets();
    await s3.makeBucket('labels');
  });
  afterAll(() => s3.stop());
  conformanceSuite(() => {
    storeCount += 1;
    const place = { bucket: 'labels', prefix: `bundles${storeCount}` };
    return Promise.resolve(new S3ObjectStore({ ...s3.options, ...place }));
  });
});
