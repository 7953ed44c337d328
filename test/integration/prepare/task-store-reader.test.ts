// The reader refuses a truncated or changed store, names the place, and reads lazily.
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { QianmoError, formatFailure } from '../../../shared/base/errors.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { prepareRoom, type PrepareRoom } from '../../fixtures/stores/prepared-store.js';

let room: PrepareRoom;
let copy: string;
beforeAll(async () => {
  room = await prepareRoom();
  const rows = Array.from({ length: 12_000 }, (_, n) => `ad${n % 300},s${n % 11},${n % 2}`);
  await room.write('log.csv', `ad,site,clicked\n${rows.join('\n')}\n`);
  await room.prepare(room.config({}));
  copy = room.path('copy');
});
beforeEach(async () => {
  await rm(copy, { recursive: true, force: true });
  await cp(room.path('store'), copy, { recursive: true });
});
afterAll(() => room.remove());

async function failureOf(work: Promise<unknown>): Promise<string> {
  const caught = await work.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(caught instanceof QianmoError))
    throw new Error('it did not fail as a QianmoError', { cause: caught });
  expect(caught.kind).toBe('data');
  return formatFailure(caught);
}

test.each(['rows-00000.arrow', 'tasks.arrow', 'dictionaries/site.arrow'])(
  'a truncated %s is named',
  async (name) => {
    await truncate(`${copy}/${name}`, 100);
    expect(await failureOf(openTaskStore(copy, {}))).toMatch(
      new RegExp(`another size[^]*${name}[^]*found: +100 bytes[^]*cure`),
    );
  },
);

test('a single changed bit is found', async () => {
  const path = `${copy}/rows-00000.arrow`;
  const bytes = await readFile(path);
  bytes[5000]! ^= 1;
  await writeFile(path, bytes);
  expect(await failureOf(openTaskStore(copy, {}))).toMatch(/was changed[^]*rows-00000\.arrow/);
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
