/** Locks of a folder between processes that die, stand still, or run where they cannot be seen. */

import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, rename, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import {
  acquireFileLock,
  isFolderThere,
  LockBrokenError,
  removeFolder,
  type LockPlace,
} from '../../../shared/storage/file-lock.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';
import { transpileShared } from '../../fixtures/transpiled-shared.js';

let folder: TemporaryFolder;
let lockFolder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  lockFolder = join(folder.path, 'lock');
});
afterEach(() => folder.remove());

async function freshPlace(): Promise<LockPlace> {
  const holderFolder = join(folder.path, 'holders', randomUUID());
  await mkdir(holderFolder, { recursive: true });
  return { lockFolder, holderFolder };
}

/** Leaves the lock in the hands of a process, as if it had stopped while it held it. */
async function heldBy(changes: Partial<ProcessIdentity>): Promise<LockPlace> {
  const place = await freshPlace();
  await acquireFileLock(place, systemClock);
  const number = (await readdir(lockFolder)).map(Number).reduce((a, b) => Math.max(a, b), 0);
  const owner = {
    holder: place.holderFolder.split('/').at(-1),
    process: { ...thisProcess(), ...changes },
  };
  await writeFile(join(lockFolder, String(number)), JSON.stringify(owner));
  return place;
}

/** Time passes only in sleeps. */
function fastClock(): Clock {
  let nowMs = 0;
  return {
    epochMs: () => systemClock.epochMs(),
    monotonicMs: () => nowMs,
    sleep: (durationMs) => {
      nowMs += durationMs * 1000;
      return Promise.resolve();
    },
  };
}

/** A clock that stands still but for `waited`, which collects what was slept. */
function countingClock(): Clock & { waitedMs: number } {
  const clock = {
    waitedMs: 0,
    epochMs: () => systemClock.epochMs(),
    monotonicMs: () => clock.waitedMs,
    sleep: (durationMs: number) => {
      clock.waitedMs += durationMs * 1000;
      return Promise.resolve();
    },
  };
  return clock;
}

const deadPid = 2 ** 22 + 1;

describe('the lock of another process', () => {
  it.each([
    ['has ended', { pid: deadPid }],
    ['had our pid before us', { startTicks: '1' }],
  ])('that %s is broken at once', async (_, changes) => {
    const other = await heldBy(changes);
    const clock = countingClock();
    await acquireFileLock(await freshPlace(), clock);
    expect(clock.waitedMs).toBe(0);
    expect(await isFolderThere(other.holderFolder)).toBe(false);
  });

  it.each([
    ['on another machine', { host: 'elsewhere', pid: deadPid }],
    ['in another PID namespace', { pidNamespace: 'pid:[1]', pid: deadPid }],
    ['of another start of the machine', { boot: 'another', pid: deadPid }],
    ['that runs here', {}],
  ])('%s is respected for a minute and then broken', async (_, changes) => {
    await heldBy(changes);
    const clock = countingClock();
    await acquireFileLock(await freshPlace(), clock);
    expect(clock.waitedMs).toBeGreaterThan(60_000);
    expect(clock.waitedMs).toBeLessThan(90_000);
  });

  it('is broken at once when it is old', async () => {
    await heldBy({ host: 'elsewhere' });
    const longAgo = new Date('2020-01-01T00:00:00Z');
    for (const name of await readdir(lockFolder))
      await utimes(join(lockFolder, name), longAgo, longAgo);
    const clock = countingClock();
    await acquireFileLock(await freshPlace(), clock);
    expect(clock.waitedMs).toBe(0);
  });

  it('is waited for in bounded time when others take turns', async () => {
    let current = await heldBy({});
    const clock = fastClock();
    const sleep = clock.sleep.bind(clock);
    const busy: Clock = {
      ...clock,
      sleep: async (durationMs) => {
        await sleep(durationMs * 5);
        await removeFolder(current.holderFolder);
        current = await heldBy({});
      },
    };
    await expect(acquireFileLock(await freshPlace(), busy)).rejects.toMatchObject({
      kind: 'transient',
      report: { where: expect.stringContaining(lockFolder) as string },
    });
  });
});

describe('a lock that was broken', () => {
  it('is held by exactly one of many that notice', async () => {
    await heldBy({ pid: deadPid });
    let holderCount = 0;
    let holderCountMax = 0;
    const work = async (): Promise<void> => {
      const place = await freshPlace();
      await acquireFileLock(place, systemClock);
      holderCount += 1;
      holderCountMax = Math.max(holderCountMax, holderCount);
      await stat(place.holderFolder);
      holderCount -= 1;
      await removeFolder(place.holderFolder);
    };
    await Promise.all(Array.from({ length: 20 }, work));
    expect(holderCountMax).toBe(1);
  });

  it('moves no file out of the folder of its holder or into it', async () => {
    const place = await heldBy({ pid: deadPid });
    const [incoming, object] = [join(place.holderFolder, 'object'), join(folder.path, 'object')];
    await writeFile(incoming, 'late');
    await writeFile(object, 'present');
    await acquireFileLock(await freshPlace(), systemClock);
    await expect(rename(incoming, object)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(rename(object, incoming)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('cannot be taken by a holder whose folder was removed while it waited', async () => {
    const place = await freshPlace();
    await removeFolder(place.holderFolder);
    await expect(acquireFileLock(place, systemClock)).rejects.toThrow(LockBrokenError);
  });

  it('keeps a bounded number of entries', async () => {
    for (let turn = 0; turn < 30; turn += 1) {
      const place = await freshPlace();
      await acquireFileLock(place, systemClock);
      await removeFolder(place.holderFolder);
    }
    expect((await readdir(lockFolder)).length).toBeLessThanOrEqual(4);
  });
});

describe('a writer that is stopped between its check and its rename', () => {
  /** Stops itself before its first rename into place, as SIGSTOP from outside may at any time. */
  const STOPPING_WRITER = `
    import fs from 'node:fs/promises';
    import { syncBuiltinESMExports } from 'node:module';
    const rename = fs.rename;
    let isFirst = true;
    fs.rename = async (from, to) => {
      if (isFirst && to.endsWith('pointer')) {
        isFirst = false;
        process.send('checked');
        await new Promise((resolve) => process.once('message', resolve));
        process.kill(process.pid, 'SIGSTOP');
      }
      return rename(from, to);
    };
    syncBuiltinESMExports();
    const { FileObjectStore } = await import('./shared/storage/file-object-store.js');
    const [folder] = process.argv.slice(2);
    const store = new FileObjectStore({ folder });
    const { etag } = await store.get('pointer');
    const written = await store.put('pointer', Buffer.from('late'), { kind: 'unchanged', etag });
    process.send(written === null ? 'refused' : 'written');
    process.disconnect();
  `;

  async function isStopped(pid: number): Promise<void> {
    const { readFile } = await import('node:fs/promises');
    while (!/^\d+ \(.*\) T /.test(await readFile(`/proc/${pid}/stat`, 'utf8')))
      await systemClock.sleep(5);
  }

  it('does not overwrite what was written meanwhile', async () => {
    await transpileShared(folder.path);
    await writeFile(join(folder.path, 'writer.mjs'), STOPPING_WRITER);
    const store = new FileObjectStore({ folder: join(folder.path, 'store') });
    const first = await store.put('pointer', Buffer.from('first'), { kind: 'absent' });
    const writer = fork(join(folder.path, 'writer.mjs'), [store.folder]);
    expect((await once(writer, 'message'))[0]).toBe('checked');
    writer.send('stop');
    await isStopped(writer.pid!);

    const locks = join(store.folder, '.locks');
    const longAgo = new Date('2020-01-01T00:00:00Z');
    for (const name of await readdir(locks, { recursive: true }))
      await utimes(join(locks, name), longAgo, longAgo);
    const second = await store.put('pointer', Buffer.from('second'), {
      ...{ kind: 'unchanged', etag: first! },
    });
    expect(second).not.toBeNull();

    writer.kill('SIGCONT');
    expect((await once(writer, 'message'))[0]).toBe('refused');
    expect(Buffer.from((await store.get('pointer'))!.bytes).toString()).toBe('second');
    await once(writer, 'exit');
    expect(await readdir(join(store.folder, '.incoming'))).toEqual([]);
  });
});
