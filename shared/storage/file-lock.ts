/**
 * A lock between processes: whoever creates the file holds the lock. It is held for milliseconds. A lock
 * whose owner died is broken by exactly one of the processes that notice.
 */

import { randomUUID } from 'node:crypto';
import { open, readFile, stat, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { QianmoError } from '../base/errors.js';
import { systemCodeOf } from '../base/system-errors.js';

/** Owners hold a lock for one rename, so an older lock belongs to a host that is gone. */
const LOCK_AGE_MAX_MS = 60_000;
const LOCK_WAIT_MAX_MS = 90_000;
const POLL_INTERVAL_MS = 3;

const OwnerSchema = z.strictObject({ token: z.string(), host: z.string(), pid: z.int() });
type Owner = z.infer<typeof OwnerSchema>;

/** Tokens of this process. After a restart in a container, another process may have the same pid. */
const ownTokens = new Set<string>();

interface FileLock {
  /** False if the lock was broken because this process stood still for too long. */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}

/** @throws QianmoError `transient` if others hold the lock for longer than the wait. */
export async function acquireFileLock(path: string, clock: Clock): Promise<FileLock> {
  const token = randomUUID();
  const waitEndMs = clock.monotonicMs() + LOCK_WAIT_MAX_MS;
  ownTokens.add(token);
  try {
    while (!(await tryToCreate(path, token))) {
      if (await isAbandoned(path, clock)) await breakLock(path, clock);
      else await clock.sleep(POLL_INTERVAL_MS);
      if (clock.monotonicMs() > waitEndMs) throw lockedTooLong(path);
    }
  } catch (cause) {
    ownTokens.delete(token);
    throw cause;
  }
  return {
    isHeld: async () => (await ownerOf(path))?.token === token,
    release: async () => {
      if ((await ownerOf(path))?.token === token) await unlinkIfThere(path);
      ownTokens.delete(token);
    },
  };
}

async function tryToCreate(path: string, token: string): Promise<boolean> {
  const owner: Owner = { token, host: hostname(), pid: process.pid };
  try {
    const file = await open(path, 'wx');
    try {
      await file.writeFile(JSON.stringify(owner));
    } catch (cause) {
      await unlinkIfThere(path);
      throw cause;
    } finally {
      await file.close();
    }
    return true;
  } catch (cause) {
    if (systemCodeOf(cause) === 'EEXIST') return false;
    throw cause;
  }
}

/** Null if there is no lock, or if its owner has not yet written its token. */
async function ownerOf(path: string): Promise<Owner | null> {
  try {
    return OwnerSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (cause instanceof SyntaxError || cause instanceof z.ZodError) return null;
    if (systemCodeOf(cause) === 'ENOENT') return null;
    throw cause;
  }
}

async function isAbandoned(path: string, clock: Clock): Promise<boolean> {
  const owner = await ownerOf(path);
  if (owner !== null && owner.host === hostname() && isDead(owner)) return true;
  try {
    return clock.epochMs() - (await stat(path)).mtimeMs > LOCK_AGE_MAX_MS;
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') return false;
    throw cause;
  }
}

function isDead(owner: Owner): boolean {
  if (owner.pid === process.pid) return !ownTokens.has(owner.token);
  try {
    process.kill(owner.pid, 0);
    return false;
  } catch (cause) {
    return systemCodeOf(cause) === 'ESRCH';
  }
}

/**
 * Removes an abandoned lock while holding a lock on the removal itself, and only if it is still
 * abandoned then. Otherwise two processes could remove it at once, and with it the lock of a third.
 */
async function breakLock(path: string, clock: Clock): Promise<void> {
  const breaking = await acquireFileLock(`${path}.break`, clock);
  try {
    if (await isAbandoned(path, clock)) await unlinkIfThere(path);
  } finally {
    await breaking.release();
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
    cure: 'stop other runs with this output; if there is none, delete the lock file',
  });
}
