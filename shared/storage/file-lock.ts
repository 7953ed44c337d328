/**
 * A lock between processes that share a folder. It is held for milliseconds.
 *
 * Terms: a *holder* is a folder of one put or delete, with a name that is never used again. An *entry* is a
 * file of the lock's folder. Its name is a number, and it names a holder.
 *
 * The entry with the largest number decides: its holder has the lock for as long as the holder's folder
 * exists. The lock is taken by linking the next number, which fails if the number is taken, and released
 * by removing the holder's folder. Numbers are never used again, so a process that wakes up late cannot
 * take or release the lock of another.
 *
 * Breaking the lock of a process that died or stands still is the same removal. What the holder changes, it
 * changes by a rename out of its folder or into it. Such a rename fails when the folder is gone, so a
 * process that was stopped between a check and its rename changes nothing after it wakes up.
 */

import { randomUUID } from 'node:crypto';
import { link, mkdir, readdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { QianmoError } from '../base/errors.js';
import { systemCodeOf } from '../base/system-errors.js';
import { livenessOf, ProcessIdentitySchema, thisProcess } from './process-identity.js';

/** Holders keep a lock for one rename, so the holder of an older one is gone or stands still. */
const LOCK_AGE_MAX_MS = 60_000;
const LOCK_WAIT_MAX_MS = 90_000;
const POLL_INTERVAL_MS = 3;
/** Entries that remain, so that a reader of the folder that misses a new name still sees one near it. */
const ENTRIES_KEPT = 4;

const OwnerSchema = z.strictObject({
  /** Name of the holder's folder. */
  holder: z.uuid(),
  process: ProcessIdentitySchema,
});
type Owner = z.infer<typeof OwnerSchema>;

export interface LockPlace {
  /** The folder of the lock's entries. */
  readonly lockFolder: string;
  /** An existing folder whose name is a fresh UUID, beside the folders of all other holders. */
  readonly holderFolder: string;
}

/** The holder's folder was removed: by another process, because this one stood still for too long. */
export class LockBrokenError extends Error {
  override readonly name = 'LockBrokenError';
}

/**
 * Waits for the lock. Afterwards the holder may rename files out of its folder and into it; each rename
 * fails with ENOENT once the lock is broken. Removing the holder's folder releases the lock.
 *
 * @throws LockBrokenError if the holder's folder is gone; QianmoError `transient` if others hold the lock
 *   for longer than the wait.
 */
export async function acquireFileLock(place: LockPlace, clock: Clock): Promise<void> {
  await mkdir(place.lockFolder, { recursive: true });
  const waitEndMs = clock.monotonicMs() + LOCK_WAIT_MAX_MS;
  let watched = { number: 0, sinceMs: clock.monotonicMs() };
  for (let attempt = 0; ; attempt += 1) {
    const number = await newestNumber(place.lockFolder);
    if (number !== watched.number) watched = { number, sinceMs: clock.monotonicMs() };
    const holder = await holderOf(place, number);
    if (holder === null) {
      if (await tryToTake(place, number + 1, attempt)) return;
    } else if (isAbandoned(holder, watched.sinceMs, clock)) await removeFolder(holder.folder);
    else await clock.sleep(POLL_INTERVAL_MS);
    if (clock.monotonicMs() > waitEndMs) throw lockedTooLong(entryOf(place, number));
  }
}

/** Makes the folder of a new holder in the folder of all holders. */
export async function makeHolderFolder(holders: string): Promise<string> {
  const folder = join(holders, randomUUID());
  await mkdir(folder, { recursive: true });
  return folder;
}

/** Removes the folder of a holder, which releases its lock, or breaks it. */
export async function removeFolder(path: string): Promise<void> {
  // A holder may add a file while its folder is being removed.
  await rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
}

export async function isFolderThere(path: string): Promise<boolean> {
  return (await statOrNull(path)) !== null;
}

function entryOf({ lockFolder }: LockPlace, number: number): string {
  return join(lockFolder, String(number));
}

async function tryToTake(place: LockPlace, number: number, attempt: number): Promise<boolean> {
  const owner: Owner = { holder: basename(place.holderFolder), process: thisProcess() };
  // Written anew for each attempt: its age is that of the lock.
  const claim = join(place.holderFolder, `claim-${attempt}`);
  const entry = entryOf(place, number);
  try {
    await writeFile(claim, JSON.stringify(owner), { flag: 'wx' });
    await link(claim, entry);
  } catch (cause) {
    if (systemCodeOf(cause) === 'EEXIST') return false;
    if (systemCodeOf(cause) === 'ENOENT' && !(await isFolderThere(place.holderFolder)))
      throw new LockBrokenError('the folder of the lock was removed');
    throw cause;
  }
  // A process that stood still before the link may have taken a number that was used and removed.
  if ((await newestNumber(place.lockFolder)) !== number) {
    await unlinkIfThere(entry);
    return false;
  }
  for (const old of await numbersIn(place.lockFolder))
    if (old <= number - ENTRIES_KEPT) await unlinkIfThere(entryOf(place, old));
  return true;
}

async function numbersIn(lockFolder: string): Promise<number[]> {
  return (await readdir(lockFolder)).filter((name) => /^[1-9]\d*$/.test(name)).map(Number);
}

/** 0 if the lock was never taken. */
async function newestNumber(lockFolder: string): Promise<number> {
  return (await numbersIn(lockFolder)).reduce((most, number) => Math.max(most, number), 0);
}

interface Holder {
  readonly owner: Owner;
  readonly folder: string;
  readonly takenMs: number;
}

/** Null if the lock is free. */
async function holderOf(place: LockPlace, number: number): Promise<Holder | null> {
  const entry = entryOf(place, number);
  const [owner, status] = [await ownerOf(entry), await statOrNull(entry)];
  // An entry that cannot be read was left by a power failure, which its owner did not survive.
  if (owner === null || status === null) return null;
  const folder = join(dirname(place.holderFolder), owner.holder);
  return (await isFolderThere(folder)) ? { owner, folder, takenMs: status.mtimeMs } : null;
}

async function ownerOf(entry: string): Promise<Owner | null> {
  try {
    return OwnerSchema.parse(JSON.parse(await readFile(entry, 'utf8')));
  } catch (cause) {
    if (cause instanceof SyntaxError || cause instanceof z.ZodError) return null;
    if (systemCodeOf(cause) === 'ENOENT') return null;
    throw cause;
  }
}

/**
 * An owner that cannot be seen from here counts as alive until its lock is old. Breaking the lock of a
 * living owner is safe, so neither clocks nor process ids decide what is written.
 */
function isAbandoned({ owner, takenMs }: Holder, watchedSinceMs: number, clock: Clock): boolean {
  if (livenessOf(owner.process) === 'ended') return true;
  const ageMs = clock.epochMs() - takenMs;
  const watchedMs = clock.monotonicMs() - watchedSinceMs;
  return Math.max(ageMs, watchedMs) > LOCK_AGE_MAX_MS;
}

async function statOrNull(path: string): Promise<{ readonly mtimeMs: number } | null> {
  try {
    return await stat(path);
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') return null;
    throw cause;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (cause) {
    if (systemCodeOf(cause) !== 'ENOENT') throw cause;
  }
}

function lockedTooLong(path: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `another process held a lock for ${LOCK_WAIT_MAX_MS / 1000} s`,
    where: path,
    cure: 'stop other runs with this output, then try again',
  });
}
