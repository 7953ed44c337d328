// Prevents two setups of one checkout from running at the same time.
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cacheRoot, digestOf, isAlive, projectRoot } from './base/project.mjs';
import { BootstrapError, say } from './base/progress.mjs';

const WAIT_MS_MAX = 15 * 60_000;
const POLL_MS = 250;
const UNSIGNED_LOCK_AGE_MS_MAX = 10_000;

/**
 * Runs `work` while holding the lock. A lock left by a process that has ended is taken over.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withSetupLock(work) {
  const folder = join(cacheRoot(), 'locks', digestOf(projectRoot));
  mkdirSync(join(cacheRoot(), 'locks'), { recursive: true });
  const deadlineMs = Date.now() + WAIT_MS_MAX;
  for (let attempt = 0; !tryTake(folder); attempt += 1) {
    if (attempt === 0) say('...  another setup of this checkout is running: waiting for it');
    if (Date.now() > deadlineMs) {
      throw new BootstrapError('another setup of this checkout has been running for 15 minutes', [
        `stop it (process ${readHolder(folder) ?? 'unknown'}), then try again`,
      ]);
    }
    await delay(POLL_MS);
  }
  const release = () => rmSync(folder, { recursive: true, force: true });
  // An exit runs the 'exit' handlers, which also end the running command. A signal alone would not.
  const leave = () => process.exit(130);
  process.once('exit', release);
  process.once('SIGINT', leave);
  process.once('SIGTERM', leave);
  try {
    return await work();
  } finally {
    process.removeListener('exit', release);
    process.removeListener('SIGINT', leave);
    process.removeListener('SIGTERM', leave);
    release();
  }
}

/**
 * @param {string} folder
 * @returns {boolean} true when this process has acquired the lock
 */
function tryTake(folder) {
  try {
    mkdirSync(folder);
  } catch {
    if (!isAbandoned(folder)) return false;
    rmSync(folder, { recursive: true, force: true });
    return tryTake(folder);
  }
  writeFileSync(join(folder, 'pid'), String(process.pid));
  return true;
}

/** @param {string} folder */
function isAbandoned(folder) {
  const holder = readHolder(folder);
  if (holder !== undefined) return !isAlive(holder);
  try {
    return Date.now() - statSync(folder).mtimeMs > UNSIGNED_LOCK_AGE_MS_MAX;
  } catch {
    return false;
  }
}

/**
 * @param {string} folder
 * @returns {number | undefined}
 */
function readHolder(folder) {
  try {
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}
