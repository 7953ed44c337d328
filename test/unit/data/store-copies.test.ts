/** Local copies of stores: shared while they are used, bounded when not, and private. */

import { chmod, mkdir, readdir, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { openStoreCopy } from '../../../shared/tasks/store-folder.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const folder = openedForEach(temporaryFolder);
let copies: string;
let nowMs: number;
beforeEach(() => {
  copies = join(folder.path, 'copies');
  nowMs = systemClock.epochMs();
});

const digestOf = (letter: string): string => letter.repeat(64);
const clock: Clock = { ...systemClock, epochMs: () => nowMs };
const HOUR_MS = 3_600_000;

async function open(letter: string, unusedByteCountMax = 1000): ReturnType<typeof openStoreCopy> {
  const bounds = { unusedByteCountMax, unusedAgeMaxMs: 24 * HOUR_MS, clock };
  const copy = await openStoreCopy(digestOf(letter), copies, bounds);
  await writeFile(join(copy.folder, 'rows'), new Uint8Array(400));
  return copy;
}

async function present(): Promise<string> {
  const names = (await readdir(copies)).filter((name) => !name.startsWith('.'));
  return names
    .map((name) => name.slice(0, 1))
    .sort()
    .join('');
}

/** Leaves a copy as its user would that did not close it. */
async function leftBy(letter: string, changes: Partial<ProcessIdentity>): Promise<void> {
  const users = join(copies, digestOf(letter), '.users');
  await mkdir(users, { recursive: true });
  await writeFile(join(users, 'mark'), JSON.stringify({ ...thisProcess(), ...changes }));
  await writeFile(join(users, '..', 'rows'), new Uint8Array(400));
}

const ENDED = { pid: 2 ** 22 + 1 };

it('keeps copies in use, whatever their size', async () => {
  const opened = [await open('a', 0), await open('b', 0), await open('c', 0)];
  expect(await present()).toBe('abc');
  for (const copy of opened) await copy.close();
  expect(await present()).toBe('');
});

it('keeps the latest unused copies within the bound on size', async () => {
  for (const letter of ['a', 'b', 'c']) {
    const copy = await open(letter);
    await copy.close();
    const users = join(copies, digestOf(letter), '.users');
    const usedSeconds = nowMs / 1000 - { a: 30, b: 20, c: 10 }[letter]!;
    await utimes(users, usedSeconds, usedSeconds);
  }
  await (await open('d')).close();
  expect(await present()).toBe('cd');
});

it('removes what processes left that have ended, but not what one elsewhere may use', async () => {
  await mkdir(copies, { recursive: true });
  await leftBy('a', ENDED);
  await leftBy('b', { ...ENDED, pidNamespace: 'pid:[1]' });
  const copy = await open('c', 0);
  expect(await present()).toBe('bc');
  nowMs += 8 * 24 * HOUR_MS;
  await (await open('d', 0)).close();
  expect(await present()).toBe('c');
  await copy.close();
});

it('is readable by its user alone', async () => {
  await mkdir(copies, { recursive: true });
  await chmod(copies, 0o777);
  await (await open('a')).close();
  expect((await stat(copies)).mode & 0o777).toBe(0o700);
});

it('refuses a link in place of the folder', async () => {
  await mkdir(join(folder.path, 'elsewhere'));
  await symlink(join(folder.path, 'elsewhere'), copies);
  await expectFailureOf(open('a'), 'environment', {
    what: 'the folder for copies of task stores belongs to someone else',
  });
});
