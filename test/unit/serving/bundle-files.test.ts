/** The cache of bundle files: bounded, whole files only, and a damaged one is fetched again. */

import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { type BlobRef, blobKeyOf, blobRefOf } from '../../../shared/storage/blob-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { bundleFilesOf, type BundleFiles } from '../../../worker/serving/loading/bundle-files.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { openedForEach } from '../../fixtures/opened.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const room = openedForEach(temporaryFolder);
let store: MemoryObjectStore;
beforeEach(() => {
  store = new MemoryObjectStore();
});

async function stored(byteCount: number): Promise<BlobRef> {
  const bytes = randomBytes(byteCount);
  const file = blobRefOf(bytes);
  await store.put(blobKeyOf(file), bytes, { kind: 'always' });
  return file;
}

function cached(
  byteCountMax: number,
  write?: (path: string, bytes: Uint8Array) => Promise<void>,
): BundleFiles {
  return bundleFilesOf(store, {
    ...{ folder: room.path, byteCountMax, clock: systemClock },
    ...(write === undefined ? {} : { write }),
  });
}

/** As long ago as the place in the list, so that the order of use is known. */
async function usedInOrder(files: readonly BlobRef[]): Promise<void> {
  for (const [place, { sha256 }] of files.entries())
    await utimes(join(room.path, sha256), 1_000 + place, 1_000 + place);
}

describe('a cached file', () => {
  test('is fetched once, and again only if it is damaged', async () => {
    const file = await stored(100);
    const files = cached(1_000);
    await files.prepare([file]);
    const path = await files.pathOf(file);
    expect(blobRefOf(await readFile(path))).toEqual(file);
    expect((await stat(path)).mode & 0o777).toBe(0o444);
    await store.delete(blobKeyOf(file));
    expect(await files.pathOf(file)).toBe(path);
    await expect(files.renewed(file)).rejects.toThrow(/missing/);
    expect(await readdir(room.path)).toEqual([]);
  });

  test('that is too short, or was changed, is replaced', async () => {
    const file = await stored(100);
    const files = cached(1_000);
    await files.prepare([file]);
    const path = await files.pathOf(file);
    await rm(path);
    await writeFile(path, 'short');
    expect(blobRefOf(await readFile(await files.pathOf(file)))).toEqual(file);
    await writeFile(path, randomBytes(100));
    expect(await files.renewed(file)).toBe(path);
    expect(blobRefOf(await readFile(path))).toEqual(file);
  });

  test('that does not fit on the disk leaves nothing behind, and is fetched when there is room', async () => {
    const file = await stored(100);
    let isFull = true;
    const files = cached(1_000, async (path, bytes) => {
      await writeFile(path, bytes.subarray(0, isFull ? 50 : bytes.length));
      if (isFull) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    });
    await files.prepare([file]);
    await expectFailureOf(files.pathOf(file), 'environment', {
      what: /the disk is full while caching/,
    });
    expect(await readdir(room.path)).toEqual([]);
    isFull = false;
    expect(blobRefOf(await readFile(await files.pathOf(file)))).toEqual(file);
  });
});

describe('the cache', () => {
  test('is bounded: the least recently used files of other bundles go first', async () => {
    const [a, b, c, d] = await Promise.all([stored(400), stored(300), stored(200), stored(500)]);
    const files = cached(1_000);
    await files.prepare([a, b, c]);
    for (const file of [a, b, c]) await files.pathOf(file);
    await usedInOrder([b, a, c]);
    await files.prepare([b, d]);
    await files.pathOf(d);
    // 300 + 200 + 500 bytes; b is the oldest, but the bundle needs it.
    expect((await readdir(room.path)).sort()).toEqual([b, c, d].map(({ sha256 }) => sha256).sort());
  });

  test('refuses a bundle that is larger than itself, before it fetches anything', async () => {
    const files = cached(1_000);
    const [a, b] = await Promise.all([stored(600), stored(600)]);
    await expect(files.prepare([a, b])).rejects.toMatchObject({
      report: { found: '1200 bytes', cure: expect.stringMatching(/--cache-gib/) as string },
    });
    await files.prepare([a, a]);
  });
});
