/**
 * A lock between processes that share a folder. It is held for milliseconds and leaves nothing behind.
 *
 * Terms: a *holder* has a name that is never used again and two folders. Its *work folder* contains what it
 * is about to write. Its *token* exists until its lock is released or broken. The *lock* is a folder with
 * one file, which names its holder.
 *
 * - Taking the lock moves a folder to the name of the lock. That fails if another is there, since a folder
 *   that is not empty is never replaced.
 * - Releasing it moves the lock into the token of its holder, and then removes the token. Nobody can do this
 *   twice: the second attempt finds another folder or no token, so it never hits the lock of a later
 *   holder, however late it comes.
 * - Breaking the lock of a process that died or stands still removes its work folder first, and then does
 *   what releasing does.
 *
 * A holder changes files only by a rename out of its work folder or into it. Such a rename fails once
 * the lock is broken. So a process that was stopped between a check and its rename changes nothing after it
 * wakes up, and neither clocks nor process ids decide what is written.
 */

import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { type QianmoError, errorOf } from '../base/errors.js';
import { systemCodeOf } from '../base/system-errors.js';
import { makeFolders } from './file-bytes.js';
import { livenessOf, ProcessIdentitySchema, thisProcess } from './process-identity.js';

/** Holders keep a lock for one rename, so the holder of an older one is gone or stands still. */
const LOCK_AGE_MAX_MS = 60_000;
const LOCK_WAIT_MAX_MS = 90_000;
const POLL_INTERVAL_MS = 3;

const HolderNameSchema = z.uuid();
const LOCK_FOLDER = '.lock';
const HOLDERS_FOLDER = '.holders';
const TOKEN_SUFFIX = '.token';
const RELEASED_SUFFIX = '.released';

/** The holder's work folder was removed: by another process, because this one stood still too long. */
export class LockBrokenError extends Error {
  override readonly name = 'LockBrokenError';
}

/** Makes a work folder of a new holder. All holders of a lock are in one folder. */
export async function makeHolder(holdersFolder: string): Promise<string> {
  const workFolder = join(holdersFolder, randomUUID());
  await makeFolders(workFolder);
  return workFolder;
}

/**
 * Does the work while the holder has the lock. Renames out of the work folder and into it fail with ENOENT
 * once the lock is broken.
 *
 * @throws LockBrokenError if the work folder is gone before the work begins; QianmoError `transient` if
 *   others hold the lock for longer than the wait.
 */
export async function withFileLock<Result>(
  lockPath: string,
  workFolder: string,
  clock: Clock,
  work: () => Promise<Result>,
): Promise<Result> {
  await makeFolders(dirname(lockPath));
  await mkdir(tokenOf(workFolder));
  try {
    await take(lockPath, workFolder, clock);
    return await work();
  } finally {
    await release(lockPath, workFolder);
  }
}

/**
 * Does the work while nobody else does with the same folder, by a holder that is made for it.
 *
 * @param work gets the work folder of the holder, whose name is never used again.
 * @throws as `withFileLock`.
 */
export async function withFolderLock<Result>(
  folder: string,
  clock: Clock,
  work: (workFolder: string) => Promise<Result>,
): Promise<Result> {
  const workFolder = await makeHolder(join(folder, HOLDERS_FOLDER));
  try {
    return await withFileLock(join(folder, LOCK_FOLDER), workFolder, clock, () => work(workFolder));
  } finally {
    await removeFolder(workFolder);
  }
}

/** The names of holders that have one of the locks in a folder. */
export async function holderNamesIn(locksFolder: string): Promise<Set<string>> {
  const locks = (await unless(['ENOENT'], () => readdir(locksFolder))) ?? [];
  const names = await Promise.all(locks.map((lock) => holderNameIn(join(locksFolder, lock))));
  return new Set(names.filter((name) => name !== null));
}

/** Removes a folder and what is in it, also while a holder adds files to it. */
export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
}

export async function isFolderThere(path: string): Promise<boolean> {
  return (await statOrNull(path)) !== null;
}

/** The holder that was seen last, and since when. */
interface Watched {
  readonly name: string | null;
  readonly sinceMs: number;
}

async function take(lockPath: string, workFolder: string, clock: Clock): Promise<void> {
  const waitEndMs = clock.monotonicMs() + LOCK_WAIT_MAX_MS;
  let watched: Watched = { name: null, sinceMs: clock.monotonicMs() };
  for (let attempt = 0; !(await tryToTake(lockPath, workFolder, attempt)); attempt += 1) {
    const holder = await holderOf(lockPath, dirname(workFolder));
    const name = holder?.workFolder ?? null;
    const nowMs = clock.monotonicMs();
    if (watched.name !== name) watched = { name, sinceMs: nowMs };
    if (holder !== null && isAbandoned(holder, nowMs - watched.sinceMs, clock)) {
      await removeFolder(holder.workFolder);
      await release(lockPath, holder.workFolder);
    } else await clock.sleep(POLL_INTERVAL_MS);
    if (clock.monotonicMs() > waitEndMs) throw lockedTooLong(lockPath);
  }
}

/** @param attempt names the claim. It is written anew each time: its age is that of the lock. */
async function tryToTake(lockPath: string, workFolder: string, attempt: number): Promise<boolean> {
  const claim = join(workFolder, `claim-${attempt}`);
  try {
    await mkdir(claim);
    // The holder is in the name, which a power failure does not damage.
    await writeFile(join(claim, nameOf(workFolder)), JSON.stringify(thisProcess()));
    await rename(claim, lockPath);
    return true;
  } catch (cause) {
    const code = systemCodeOf(cause) ?? '';
    if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(code)) return false;
    if (code === 'ENOENT' && !(await isFolderThere(workFolder)))
      throw new LockBrokenError('the work folder of the lock was removed');
    throw cause;
  }
}

/** Has no effect if the holder does not have the lock. */
async function release(lockPath: string, workFolder: string): Promise<void> {
  const token = tokenOf(workFolder);
  if ((await holderNameIn(lockPath)) === nameOf(workFolder))
    await unless(['ENOENT', 'ENOTEMPTY', 'EEXIST'], () => rename(lockPath, join(token, 'lock')));
  // Removed at once with what is in it, since an empty folder could be replaced.
  const released = `${token}${RELEASED_SUFFIX}`;
  await unless(['ENOENT', 'ENOTEMPTY', 'EEXIST'], () => rename(token, released));
  await removeFolder(released);
}

function tokenOf(workFolder: string): string {
  return `${workFolder}${TOKEN_SUFFIX}`;
}

function nameOf(workFolder: string): string {
  return workFolder.slice(dirname(workFolder).length + 1);
}

interface Holder {
  readonly workFolder: string;
  readonly takenMs: number;
  readonly liveness: ReturnType<typeof livenessOf>;
}

/** Null if the lock is free, or held by nobody who can be named. */
async function holderOf(lockPath: string, holdersFolder: string): Promise<Holder | null> {
  const name = await holderNameIn(lockPath);
  if (name === null) return null;
  const lockFile = join(lockPath, name);
  const status = await statOrNull(lockFile);
  if (status === null) return null;
  const identity = await readFile(lockFile, 'utf8')
    .then((text) => ProcessIdentitySchema.parse(JSON.parse(text)))
    .catch(() => null);
  const liveness = identity === null ? 'unknown' : livenessOf(identity);
  return { workFolder: join(holdersFolder, name), takenMs: status.mtimeMs, liveness };
}

async function holderNameIn(lockPath: string): Promise<string | null> {
  const names = await unless(['ENOENT', 'ENOTDIR'], () => readdir(lockPath));
  return HolderNameSchema.safeParse(names?.[0]).data ?? null;
}

/** A holder that cannot be seen from here counts as alive until its lock is old. */
function isAbandoned({ liveness, takenMs }: Holder, watchedMs: number, clock: Clock): boolean {
  if (liveness === 'ended') return true;
  return Math.max(clock.epochMs() - takenMs, watchedMs) > LOCK_AGE_MAX_MS;
}

function statOrNull(path: string): Promise<{ readonly mtimeMs: number } | null> {
  return unless(['ENOENT'], () => stat(path));
}

/** The result, or null if the system refuses with one of the codes. */
async function unless<Result>(
  codes: readonly string[],
  work: () => Promise<Result>,
): Promise<Result | null> {
  try {
    return await work();
  } catch (cause) {
    if (codes.includes(systemCodeOf(cause) ?? '')) return null;
    throw cause;
  }
}

function lockedTooLong(path: string): QianmoError {
  return errorOf('transient', `another process held a lock for ${LOCK_WAIT_MAX_MS / 1000} s`, {
    where: path,
    cure: 'stop other runs with this output; if there is none, delete the lock',
  });
}
