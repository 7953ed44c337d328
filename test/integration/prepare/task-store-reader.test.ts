// The reader refuses a truncated or changed store, names the place, and reads lazily.
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { cp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { QianmoError, formatFailure } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { StoredObject } from '../../../shared/storage/object-store.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { failureOf as failureIn, expectFailureOf } from '../../fixtures/failures.js';
import { openedOnce } from '../../fixtures/opened.js';
import { prepareRoom } from '../../fixtures/stores/prepared-store.js';

const room = openedOnce(prepareRoom);
let copy: string;
beforeAll(async () => {
  const rows = Array.from({ length: 12_000 }, (_, n) => `ad${n % 300},s${n % 11},${n % 2}`);
  await room.write('log.csv', `ad,site,clicked\n${rows.join('\n')}\n`);
  await room.prepare(room.config());
  copy = room.path('copy');
});
beforeEach(async () => {
  await rm(copy, { recursive: true, force: true });
  await cp(room.path('store'), copy, { recursive: true });
});

async function failureOf(work: Promise<unknown>): Promise<string> {
  const failure = await failureIn(work);
  expect(failure.kind).toBe('data');
  return formatFailure(failure);
}

test('a truncated file is named', async () => {
  await truncate(`${copy}/tasks.arrow`, 100);
  expect(await failureOf(openTaskStore(copy, {}))).toMatch(
    /another size[^]*tasks\.arrow[^]*found: +100 bytes[^]*cure/,
  );
});

test('a missing file, a broken manifest and a missing store are refused', async () => {
  await rm(`${copy}/tasks.arrow`);
  expect(await failureOf(openTaskStore(copy, {}))).toMatch(/missing[^]*tasks\.arrow/);
  await truncate(`${copy}/manifest.json`, 50);
  expect(await failureOf(openTaskStore(copy, {}))).toMatch(
    /manifest of the task store is not JSON/,
  );
  await writeFile(`${copy}/manifest.json`, '{"formatVersion":9}');
  expect(await failureOf(openTaskStore(copy, {}))).toMatch(/formatVersion/);
  expect(await failureOf(openTaskStore(room.path('none'), {}))).toMatch(/there is no task store/);
});

test.each(['../rows-00000.arrow', '/etc/passwd', 'a//b', './tasks.arrow', 'a/../../b'])(
  'a manifest that lists %s leads out of the store and is refused',
  async (name) => {
    const manifest = JSON.parse(await readFile(`${copy}/manifest.json`, 'utf8')) as {
      files: { name: string }[];
    };
    manifest.files[0]!.name = name;
    await writeFile(`${copy}/manifest.json`, JSON.stringify(manifest));
    expect(await failureOf(openTaskStore(copy, {}))).toMatch(/files\.0\.name[^]*in the folder/);
  },
);

test('another store than expected is refused', async () => {
  const expectedDigest = 'f'.repeat(64);
  expect(await failureOf(openTaskStore(copy, { expectedDigest }))).toMatch(/not the expected one/);
});

test('rows do not depend on the state of the cache, on order or on concurrency', async () => {
  const wide = await openTaskStore(copy, {});
  const narrow = await openTaskStore(copy, { cacheByteCountMax: 1 });
  expect(wide.tasks.length).toBe(300);
  const order = Array.from({ length: 300 }, (_, n) => (n * 7) % 300);
  const expected = await wide.readTasks(order);
  expect(expected.map((task) => task.taskIndex)).toEqual(order);
  const pieces = await Promise.all(order.map((index) => narrow.readTasks([index])));
  expect(pieces.flat()).toEqual(expected);
  expect(new Set(expected.flatMap((task) => [...task.logRows])).size).toBe(12_000);
  expect(await failureOf(wide.readTasks([300]))).toMatch(/no task 300/);
  await wide.close();
  await narrow.close();
});

const ROWS_FILE = 'rows-00000.arrow';
/** As for a store above 64 MiB, whose row files are checked before their first use. */
const LAZY = { verifyAtOpenByteCountMax: 0 };

async function withChangedBit(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[5000]! ^= 1;
  await writeFile(path, bytes);
}

test('a damaged row file is a fault of this machine, until it is restored', async () => {
  const sound = await readFile(`${copy}/${ROWS_FILE}`);
  await withChangedBit(`${copy}/${ROWS_FILE}`);
  const store = await openTaskStore(copy, LAZY);
  for (let attempt = 0; attempt < 2; attempt += 1)
    await expectFailureOf(store.readTasks([0]), 'data', {
      where: `${copy}/${ROWS_FILE}`,
      cure: /restore the store/,
      isOfThisMachine: true,
    });
  await writeFile(`${copy}/${ROWS_FILE}`, sound);
  expect(await store.readTasks([0])).toHaveLength(1);
  await store.close();
});

test('a changed bit is found; content that the same call has checked is not checked again, sizes are', async () => {
  const checkedFiles = new Set<string>();
  await (await openTaskStore(copy, { checkedFiles })).close();
  await withChangedBit(`${copy}/${ROWS_FILE}`);
  expect(await failureOf(openTaskStore(copy, {}))).toMatch(/was changed[^]*rows-00000\.arrow/);
  await (await openTaskStore(copy, { checkedFiles })).close();
  await truncate(`${copy}/${ROWS_FILE}`, 100);
  expect(await failureOf(openTaskStore(copy, { checkedFiles }))).toMatch(/another size/);
});

class RemoteStore extends MemoryObjectStore {
  failuresLeft = 0;
  fetchCount = 0;

  override async get(key: string, byteCountMax?: number): Promise<StoredObject | null> {
    if (key !== ROWS_FILE) return super.get(key, byteCountMax);
    this.fetchCount += 1;
    this.failuresLeft -= 1;
    if (this.failuresLeft >= 0)
      throw new QianmoError({ kind: 'transient', what: 'the store does not answer' });
    return super.get(key, byteCountMax);
  }
}

describe('a store that is kept elsewhere', () => {
  let objects: RemoteStore;
  let downloadFolder: string;
  beforeEach(async () => {
    objects = new RemoteStore('elsewhere');
    downloadFolder = room.path('copies');
    await rm(downloadFolder, { recursive: true, force: true });
    for (const entry of await readdir(copy, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = `${entry.parentPath}/${entry.name}`;
      const key = path.slice(copy.length + 1);
      await objects.put(key, await readFile(path), { kind: 'always' });
    }
  });
  const open = () =>
    openTaskStore('s3://stores/one', { ...LAZY, objectStoreOf: () => objects, downloadFolder });
  const copyOf = (digest: string): string => `${downloadFolder}/${digest}/${ROWS_FILE}`;

  test('is read once a fetch that failed succeeds', async () => {
    const store = await open();
    objects.failuresLeft = 1;
    await expect(store.readTasks([0])).rejects.toMatchObject({ kind: 'transient' });
    expect(await store.readTasks([0])).toHaveLength(1);
    await store.close();
  });

  test('is fetched anew where the copy is damaged', async () => {
    const first = await open();
    const expected = await first.readTasks([0, 1]);
    await withChangedBit(copyOf(first.digest));
    const second = await open();
    expect(await second.readTasks([0, 1])).toEqual(expected);
    expect(objects.fetchCount).toBe(2);
    await first.close();
    await second.close();
  });

  test('is refused by name where it is damaged itself, until it is restored', async () => {
    const sound = (await objects.get(ROWS_FILE))!.bytes;
    const damaged = Uint8Array.from(sound);
    damaged[5000]! ^= 1;
    await objects.put(ROWS_FILE, damaged, { kind: 'always' });
    const store = await open();
    await expectFailureOf(store.readTasks([0]), 'data', {
      where: `memory://elsewhere/${ROWS_FILE}`,
      isOfThisMachine: true,
    });
    await objects.put(ROWS_FILE, sound, { kind: 'always' });
    expect(await store.readTasks([0])).toHaveLength(1);
    await store.close();
  });

  test('is not read beyond the size that its manifest gives', async () => {
    const sound = (await objects.get(ROWS_FILE))!.bytes;
    await objects.put(ROWS_FILE, new Uint8Array(sound.byteLength + 1), { kind: 'always' });
    const store = await open();
    await expect(store.readTasks([0])).rejects.toMatchObject({
      report: { what: 'an object is larger than it can be', isOfThisMachine: true },
    });
    await store.close();
  });
});
