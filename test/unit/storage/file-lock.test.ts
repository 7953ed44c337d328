/** Locks of a folder between processes that die or run where they cannot be seen. */

import { readdir, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { makeHolder, removeFolder, withFileLock } from '../../../shared/storage/file-lock.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const folder = openedForEach(temporaryFolder);
let lockPath: string;
let holders: string;
beforeEach(() => {
  lockPath = join(folder.path, 'locks/lock');
  holders = join(folder.path, 'holders');
});

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Takes the lock and keeps it until `release` is called. */
async function held(): Promise<{ workFolder: string; release: () => Promise<void> }> {
  const workFolder = await makeHolder(holders);
  let finish = (): void => undefined;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  let done: Promise<void> | undefined;
  await new Promise<void>((resolve, reject) => {
    done = withFileLock(lockPath, workFolder, systemClock, () => {
      resolve();
      return finished;
    });
    done.catch(reject);
  });
  return {
    workFolder,
    release: async () => {
      finish();
      await done;
      await removeFolder(workFolder);
    },
  };
}

/** Leaves the lock in the hands of a process, as if it had stopped while it held it. */
async function heldBy(
  changes: Partial<ProcessIdentity>,
): Promise<{ workFolder: string; release: () => Promise<void> }> {
  const holder = await held();
  const [name = ''] = await readdir(lockPath);
  await writeFile(join(lockPath, name), JSON.stringify({ ...thisProcess(), ...changes }));
  return holder;
}

/** Takes the lock and releases it. */
async function passThrough(
  clock: Clock,
  work = (): Promise<void> => Promise.resolve(),
): Promise<void> {
  const workFolder = await makeHolder(holders);
  await withFileLock(lockPath, workFolder, clock, work);
  await removeFolder(workFolder);
}

async function expectNothingLeft(): Promise<void> {
  expect(await readdir(holders)).toEqual([]);
  expect(await readdir(join(folder.path, 'locks'))).toEqual([]);
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
    await passThrough(clock);
    expect(clock.waitedMs).toBe(0);
    expect(await isThere(other.workFolder)).toBe(false);
    await expectNothingLeft();
  });

  it.each([
    ['on another machine', { host: 'elsewhere', pid: deadPid }],
    ['that runs here', {}],
  ])('%s is respected for a minute and then broken', async (_, changes) => {
    await heldBy(changes);
    const clock = countingClock();
    await passThrough(clock);
    expect(clock.waitedMs).toBeGreaterThan(60_000);
    expect(clock.waitedMs).toBeLessThan(90_000);
    await expectNothingLeft();
  });

  it('is broken after a minute when a power failure has emptied its file', async () => {
    await heldBy({});
    for (const name of await readdir(lockPath)) await writeFile(join(lockPath, name), '');
    const clock = countingClock();
    await passThrough(clock);
    expect(clock.waitedMs).toBeGreaterThan(60_000);
  });
});

describe('a lock', () => {
  it('that was broken is held by exactly one of many that notice', async () => {
    await heldBy({ pid: deadPid });
    let holderCount = 0;
    let holderCountMax = 0;
    const work = async (): Promise<void> => {
      holderCount += 1;
      holderCountMax = Math.max(holderCountMax, holderCount);
      await readdir(holders);
      holderCount -= 1;
    };
    await Promise.all(Array.from({ length: 20 }, () => passThrough(systemClock, work)));
    expect(holderCountMax).toBe(1);
    await expectNothingLeft();
  });

  it('of a later holder is not released by one whose lock was broken', async () => {
    const broken = await heldBy({ pid: deadPid });
    await passThrough(systemClock);
    const later = await held();
    await broken.release();
    expect(await readdir(lockPath)).toEqual([basename(later.workFolder)]);
    await later.release();
    await expectNothingLeft();
  });
});
