import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import {
  FOLDER_BLOB_BYTE_COUNT_MIN,
  FolderBlobStore,
} from '../../../shared/storage/folder-blob-store.js';
import { FolderBytes, SharedInput } from '../../../worker/compute/job/folder-bytes.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const terms = { blobLifetimeMs: 600_000 };
const large = new Uint8Array(FOLDER_BLOB_BYTE_COUNT_MIN).fill(3);

let folder: TemporaryFolder;
let store: FolderBlobStore;
let bytes: FolderBytes;
beforeEach(async () => {
  folder = await temporaryFolder();
  const clock = instantClock();
  store = new FolderBlobStore({
    ...{ folder: folder.path, clock, lifetimeMs: terms.blobLifetimeMs },
    ...{ blobByteCountMax: 2 ** 30, isVerified: true },
  });
  bytes = new FolderBytes(folder.path, clock);
});
afterEach(() => folder.remove());

describe('the bytes of a compute process', () => {
  it('are read from the folder, or come as they are', async () => {
    const ref = await store.put(large);
    expect(blobRefOf(bytes.read({ stored: ref }, terms))).toEqual(ref);
    expect(bytes.read(large, terms)).toBe(large);
  });

  it('are written to the folder where they are many', async () => {
    const written = bytes.written(large, terms);
    expect(written).toEqual({ stored: blobRefOf(large) });
    expect(blobRefOf(await store.get(blobRefOf(large)))).toEqual(blobRefOf(large));
    const small = large.subarray(1);
    expect(bytes.written(small, terms)).toBe(small);
  });

  it('cross the channel when the folder takes none, or is none', async () => {
    await folder.remove();
    expect(bytes.written(large, terms)).toBe(large);
    expect(new FolderBytes(null, instantClock()).written(large, terms)).toBe(large);
  });

  it('may be gone, which another delivery can repair', async () => {
    const ref = await store.put(large);
    await store.delete(ref);
    expect(() => bytes.read({ stored: ref }, terms)).toThrow(
      expect.objectContaining({ kind: 'transient' }) as Error,
    );
  });

  it('are read once where jobs share them', async () => {
    const ref = await store.put(large);
    const shared = new SharedInput({ stored: ref });
    const first = shared.read(bytes, terms);
    await store.delete(ref);
    expect(shared.read(bytes, terms)).toBe(first);
  });
});
