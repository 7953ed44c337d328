// Two prepares on one store: the second is refused, but the lock of an ended process is ignored.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { beforeEach, expect, test } from 'vitest';
import { formatFailure, type QianmoError } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { failureOf } from '../../fixtures/failures.js';
import { failureTextOf, roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();
beforeEach(async () => {
  await room.write('log.csv', 'ad,site,clicked\na,x,1\na,y,0\nb,x,1\nb,y,0\n');
});

async function leaveLockOf(changes: Partial<ProcessIdentity>): Promise<void> {
  const holder = JSON.stringify({ ...thisProcess(), ...changes });
  await writeFile(room.path('store.prepare-lock'), holder);
}

async function goneProcessId(): Promise<number> {
  const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
  await once(child, 'exit');
  if (child.pid === undefined) throw new Error('no process was started');
  return child.pid;
}

test.each(['store', 's3://bucket/store'])('a second prepare on %s is refused', async (place) => {
  const objects = new MemoryObjectStore('s3://bucket/store');
  const store = place === 'store' ? room.path('store') : place;
  const objectStoreOf = () => objects;
  const config = room.config({ store });
  let second: Promise<QianmoError> | null = null;
  const first = await room.prepare(config, {
    objectStoreOf,
    onEvent: (event) => {
      if (event.kind === 'progress' && event.stage === 'dictionaries')
        second ??= failureOf(room.prepare(config, { objectStoreOf }));
    },
  });
  const failure = await (second as Promise<QianmoError> | null);
  expect(failure?.kind).toBe('transient');
  expect(formatFailure(failure!)).toMatch(
    new RegExp(`another prepare is writing[^]*prepare-lock[^]*process ${process.pid} on`),
  );
  const opened = await openTaskStore(store, { objectStoreOf, downloadFolder: room.path('down') });
  expect(opened.manifest).toEqual(first);
  await opened.close();
  // The lock is released, so the next prepare may start.
  expect(await room.prepare(config, { objectStoreOf })).toEqual(first);
  expect((await readdir(room.folder)).filter((name) => name.includes('lock'))).toEqual([]);
  expect((await objects.list('')).filter((key) => key.includes('lock'))).toEqual([]);
});

test('the leftovers of a killed prepare are taken over and removed', async () => {
  const processId = await goneProcessId();
  await leaveLockOf({ pid: processId });
  await mkdir(room.path(`store.partial-${processId}/dictionaries`), { recursive: true });
  await room.prepare(room.config());
  expect((await readdir(room.folder)).sort()).toEqual(['log.csv', 'store']);
});

test('an earlier process with the same id is not mistaken for this one', async () => {
  await leaveLockOf({ startTicks: '1' });
  await room.prepare(room.config());
  expect((await readdir(room.folder)).sort()).toEqual(['log.csv', 'store']);
});

test.each([
  ['another machine', { host: 'elsewhere', pid: 2 ** 22 + 1 }],
  ['another container', { pid: 2 ** 22 + 1, pidNamespace: 'pid:[1]' }],
  ['another start of the machine', { pid: 2 ** 22 + 1, boot: 'another' }],
])('a lock of %s is respected, and reported for deletion', async (_, changes) => {
  await leaveLockOf(changes);
  expect(await failureTextOf(room.prepare(room.config()))).toMatch(
    /store\.prepare-lock[^]*process \d+ on [^]*delete/,
  );
  expect((await readdir(room.folder)).sort()).toEqual(['log.csv', 'store.prepare-lock']);
});
