/**
 * The contract of every object store, run on each implementation: memory, a folder, a real S3
 * server.
 */

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import {
  probeConditionalWrites,
  type ObjectStore,
  type PutCondition,
} from '../../shared/storage/object-store.js';
import { S3ObjectStore } from '../../shared/storage/s3-object-store.js';
import { openedOnce } from '../fixtures/opened.js';
import { canStartS3, S3_SUITE_SUFFIX, startS3Buckets } from '../fixtures/stores/s3-buckets.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';
import { expectFailureOf } from '../fixtures/failures.js';

const ABSENT: PutCondition = { kind: 'absent' };
const ALWAYS: PutCondition = { kind: 'always' };
const unchanged = (etag: string): PutCondition => ({ kind: 'unchanged', etag });
const text = (value: string): Uint8Array => Buffer.from(value);

function conformanceSuite(freshStore: () => Promise<ObjectStore>): void {
  let store: ObjectStore;
  beforeEach(async () => {
    store = await freshStore();
  });
  const textAt = async (key: string): Promise<string | null> => {
    const found = await store.get(key);
    return found === null ? null : Buffer.from(found.bytes).toString();
  };

  it('gives back what was put, with the etag of the put', async () => {
    const etag = await store.put('a/b.json', text('hello'), ALWAYS);
    const found = await store.get('a/b.json');
    expect(Buffer.from(found!.bytes).toString()).toBe('hello');
    expect(found!.etag).toBe(etag);
  });

  it('has nothing under a key that was never written, next to, above or below an existing one', async () => {
    await store.put('a/b', text('x'), ALWAYS);
    expect(await store.get('a/c')).toBeNull();
    expect(await store.get('a')).toBeNull();
    expect(await store.get('c/d')).toBeNull();
  });

  it('keeps empty objects and every byte value', async () => {
    await store.put('empty', new Uint8Array(0), ALWAYS);
    expect((await store.get('empty'))!.bytes).toHaveLength(0);
    const everyByte = Uint8Array.from({ length: 1024 }, (_, index) => index % 256);
    await store.put('bytes', everyByte, ALWAYS);
    expect(Buffer.compare((await store.get('bytes'))!.bytes, everyByte)).toBe(0);
  });

  it('does not share memory with the writer or between readers', async () => {
    const bytes = Uint8Array.of(1, 2, 3);
    await store.put('own', bytes, ALWAYS);
    bytes[0] = 9;
    (await store.get('own'))!.bytes[1] = 9;
    expect([...(await store.get('own'))!.bytes]).toEqual([1, 2, 3]);
  });

  it('puts a view into a larger buffer without the surrounding bytes', async () => {
    await store.put('view', Uint8Array.of(7, 1, 2, 7).subarray(1, 3), ALWAYS);
    expect([...(await store.get('view'))!.bytes]).toEqual([1, 2]);
  });

  it('absent: writes once and never over an existing object', async () => {
    expect(await store.put('k', text('first'), ABSENT)).not.toBeNull();
    expect(await store.put('k', text('second'), ABSENT)).toBeNull();
    expect(await textAt('k')).toBe('first');
  });

  it('absent: writes again after a delete', async () => {
    await store.put('k', text('first'), ABSENT);
    await store.delete('k');
    expect(await textAt('k')).toBeNull();
    expect(await store.put('k', text('second'), ABSENT)).not.toBeNull();
  });

  it('unchanged: replaces the named version and refuses an older one', async () => {
    const first = (await store.put('k', text('first'), ALWAYS))!;
    const second = await store.put('k', text('second'), unchanged(first));
    expect(second).not.toBeNull();
    expect(await store.put('k', text('third'), unchanged(first))).toBeNull();
    expect(await textAt('k')).toBe('second');
    expect(await store.put('k', text('third'), unchanged(second!))).not.toBeNull();
  });

  it('unchanged: refuses when there is no object', async () => {
    const etag = (await store.put('k', text('first'), ALWAYS))!;
    await store.delete('k');
    expect(await store.put('k', text('second'), unchanged(etag))).toBeNull();
    expect(await textAt('k')).toBeNull();
  });

  it('lists by prefix, ascending, deep and shallow', async () => {
    for (const key of ['b/2', 'b/10', 'a', 'b/c/d', 'ba']) await store.put(key, text(key), ALWAYS);
    expect(await store.list('')).toEqual(['a', 'b/10', 'b/2', 'b/c/d', 'ba']);
    expect(await store.list('b/')).toEqual(['b/10', 'b/2', 'b/c/d']);
    expect(await store.list('b')).toEqual(['b/10', 'b/2', 'b/c/d', 'ba']);
    expect(await store.list('b/1')).toEqual(['b/10']);
    expect(await store.list('nothing/')).toEqual([]);
  });

  it('lists no more than it is asked for, the first ones', async () => {
    for (const key of ['b/2', 'b/10', 'a', 'c']) await store.put(key, text(key), ALWAYS);
    expect(await store.list('', 2)).toEqual(['a', 'b/10']);
    expect(await store.list('b/', 2)).toEqual(['b/10', 'b/2']);
    expect(await store.list('', 9)).toHaveLength(4);
  });

  it('does not read an object that is larger than expected', async () => {
    await store.put('k', text('12345'), ALWAYS);
    expect((await store.get('k', 5))!.bytes).toHaveLength(5);
    await expect(store.get('k', 4)).rejects.toMatchObject({ kind: 'data' });
    expect(await store.get('missing', 4)).toBeNull();
  });

  it('lists when each object was last put, and its size', async () => {
    const startMs = Date.now();
    await store.put('b/2', text('x'), ALWAYS);
    await store.put('b/1', text('xyz'), ALWAYS);
    const listed = await store.listWithTimes('b/');
    expect(listed.map(({ key }) => key)).toEqual(['b/1', 'b/2']);
    expect(listed.map(({ byteCount }) => byteCount)).toEqual([3, 1]);
    // Stores round their times to seconds.
    for (const { modifiedMs } of listed) {
      expect(modifiedMs).toBeGreaterThan(startMs - 2_000);
      expect(modifiedMs).toBeLessThan(Date.now() + 2_000);
    }
  });

  it('deletes a missing object without an error', async () => {
    await store.delete('never/was');
    expect(await store.list('')).toEqual([]);
  });

  it('refuses keys that leave the store or differ in meaning between stores', async () => {
    for (const key of ['', '/a', 'a/', '../a', 'a/../b', 'a//b', '.hidden', 'a b', 'ä'])
      await expect(store.put(key, text('x'), ALWAYS)).rejects.toThrow('is not a key');
  });

  it('absent: exactly one of many concurrent writers wins, and its bytes are stored', async () => {
    const contents = Array.from({ length: 24 }, (_, index) => `writer ${index}`);
    const etags = await Promise.all(contents.map((c) => store.put('race', text(c), ABSENT)));
    const winners = contents.filter((_, index) => etags[index] !== null);
    expect(winners).toHaveLength(1);
    expect(await textAt('race')).toBe(winners[0]);
  });

  it('unchanged: exactly one of many concurrent writers wins, every time', async () => {
    let etag = (await store.put('race', text('start'), ALWAYS))!;
    for (let round = 0; round < 4; round += 1) {
      const contents = Array.from({ length: 12 }, (_, index) => `round ${round} writer ${index}`);
      const condition = unchanged(etag);
      const etags = await Promise.all(contents.map((c) => store.put('race', text(c), condition)));
      const winners = etags.filter((won) => won !== null);
      expect(winners).toHaveLength(1);
      expect(await textAt('race')).toBe(contents[etags.indexOf(winners[0]!)]);
      etag = winners[0]!;
    }
  });

  it('stores objects beyond the limit of a single upload, including conditional puts', async () => {
    const large = new Uint8Array(9 * 1024 * 1024).fill(7);
    large[large.length - 1] = 1;
    const etag = await store.put('large', large, ABSENT);
    expect(etag).not.toBeNull();
    expect(await store.put('large', large.slice().fill(2), ABSENT)).toBeNull();
    expect(await store.put('large', large, unchanged('"0123"'))).toBeNull();
    const found = (await store.get('large'))!;
    expect(found.etag).toBe(etag);
    expect(Buffer.compare(found.bytes, large)).toBe(0);
    large[0] = 9;
    expect(await store.put('large', large, unchanged(etag!))).not.toBeNull();
  });

  it('is recognised as honouring conditional writes, leaving nothing behind', async () => {
    expect(await probeConditionalWrites(store)).toBe(true);
    expect(await store.list('')).toEqual([]);
  });
}

describe('object store in memory', () => {
  conformanceSuite(() => Promise.resolve(new MemoryObjectStore()));
});

describe('object store in a folder', () => {
  const folder = openedOnce(temporaryFolder);
  let storeCount = 0;
  conformanceSuite(() => {
    storeCount += 1;
    return Promise.resolve(
      new FileObjectStore({ folder: join(folder.path, `store-${storeCount}`) }),
    );
  });

  it('leaves neither locks nor partial files behind', async () => {
    for (const name of await readdir(folder.path))
      for (const hidden of ['.locks', '.incoming'])
        expect(await readdir(join(folder.path, name, hidden)).catch(() => [])).toEqual([]);
  });
});

describe.skipIf(!canStartS3)(`object store on an S3 server${S3_SUITE_SUFFIX}`, () => {
  const s3 = openedOnce(startS3Buckets);
  let storeCount = 0;
  beforeAll(async () => {
    await s3.makeBucket('conformance');
  });
  const open = (bucket: string, prefix: string, options = s3.options): S3ObjectStore =>
    new S3ObjectStore({ ...options, bucket, prefix });
  conformanceSuite(() => {
    storeCount += 1;
    return Promise.resolve(open('conformance', `store-${storeCount}/deep`));
  });

  it('keeps prefixes separate', async () => {
    const [one, other] = [open('conformance', 'apart'), open('conformance', 'apart2')];
    await one.put('k', text('one'), ALWAYS);
    expect(await other.get('k')).toBeNull();
    expect(await other.list('')).toEqual([]);
  });

  it('streams an object to a file, or reports that it does not exist', async () => {
    const folder = await temporaryFolder();
    onTestFinished(() => folder.remove());
    const store = open('conformance', 'download');
    const bytes = new Uint8Array(300_000).map((_, index) => index % 251);
    const etag = await store.put('k', bytes, ALWAYS);
    const path = join(folder.path, 'inner', 'file.bin');
    expect(await store.downloadToFile('k', path)).toBe(etag);
    expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
    expect(await store.downloadToFile('missing', `${path}2`)).toBeNull();
    expect(await readdir(join(folder.path, 'inner'))).toEqual(['file.bin']);
  });

  it('reports that the bucket is missing, also on a conditional write', async () => {
    const store = open('no-such-bucket', 'x');
    const expected = {
      kind: 'environment',
      report: { what: 'the bucket does not exist', found: 'NoSuchBucket (HTTP 404)' },
    };
    await expect(store.get('k')).rejects.toMatchObject(expected);
    await expect(store.put('k', text('x'), ABSENT)).rejects.toMatchObject(expected);
    await expect(store.put('k', text('x'), unchanged('"e"'))).rejects.toMatchObject(expected);
    await expect(store.list('')).rejects.toMatchObject(expected);
  });

  it('reports that the credentials are wrong', async () => {
    for (const credentials of [
      { accessKeyId: 'nobody', secretAccessKey: 'nothing' },
      { ...s3.options.credentials!, secretAccessKey: 'wrong' },
    ])
      await expectFailureOf(
        open('conformance', 'x', { ...s3.options, credentials }).get('k'),
        'environment',
        { what: 'the object store does not accept the credentials' },
      );
  });

  it('reports that the store cannot be reached', async () => {
    const endpoint = 'http://127.0.0.1:9';
    await expectFailureOf(
      open('conformance', 'x', { ...s3.options, endpoint }).get('k'),
      'transient',
      { what: 'the object store cannot be reached', found: 'ECONNREFUSED' },
    );
  });
});

describe('stores that ignore conditions', () => {
  class Careless extends MemoryObjectStore {
    readonly #ignored: PutCondition['kind'];
    constructor(ignored: PutCondition['kind']) {
      super();
      this.#ignored = ignored;
    }
    override put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | null> {
      return super.put(key, bytes, condition.kind === this.#ignored ? ALWAYS : condition);
    }
  }
  it.each(['absent', 'unchanged'] as const)('are detected when they ignore %s', async (kind) => {
    const store = new Careless(kind);
    expect(await probeConditionalWrites(store)).toBe(false);
    expect(await store.list('')).toEqual([]);
  });
});
