// The paths of the project, its cache and its stamps. This file does not know their contents.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The folder that contains package.json. The compiled copy of this file in dist/ finds the same
 * one.
 * @returns {string}
 */
function findProjectRoot() {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('package.json of qianmo was not found above its code');
    folder = parent;
  }
  return folder;
}

export const projectRoot = findProjectRoot();

/**
 * True if this is a checkout, which has the sources. An installed package has only compiled code.
 */
export const isCheckout = existsSync(join(projectRoot, 'tsconfig.json'));

/**
 * The folder for downloads and builds that all checkouts of a user share.
 * @returns {string} $XDG_CACHE_HOME/qianmo or ~/.cache/qianmo
 */
export function cacheRoot() {
  const configured = process.env['XDG_CACHE_HOME'];
  if (configured) return join(configured, 'qianmo');
  const home = process.env['HOME'] || safeHome();
  return home ? join(home, '.cache', 'qianmo') : join(tmpdir(), 'qianmo-cache');
}

function safeHome() {
  try {
    return homedir();
  } catch {
    return '';
  }
}

/**
 * @param {string | Buffer} content
 * @returns {string} the first 32 hex digits of its sha256
 */
export function digestOf(content) {
  return createHash('sha256').update(content).digest('hex').slice(0, 32);
}

/**
 * @param {string} path
 * @returns {string | undefined} undefined when the file does not exist
 */
export function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * Writes a file atomically.
 * @param {string} path
 * @param {string} content
 */
export function writeWhole(path, content) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/**
 * @param {number} pid
 * @returns {boolean}
 */
export function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

/**
 * Removes unfinished folders left by killed processes.
 * @param {string} target
 */
function removeAbandoned(target) {
  const pattern = /\.(\d+)\.tmp$/;
  for (const name of readdirSync(dirname(target))) {
    const pid = Number(pattern.exec(name)?.[1] ?? 0);
    const isOurs = name === `${basename(target)}.${pid}.tmp`;
    if (isOurs && !isAlive(pid)) {
      rmSync(join(dirname(target), name), { recursive: true, force: true });
    }
  }
}

/**
 * Fills a temporary folder next to its target and renames it, so that an existing folder is
 * complete. If another process was faster, its folder is kept.
 * @param {string} target
 * @param {(folder: string) => Promise<void>} fill
 */
export async function publishFolder(target, fill) {
  if (existsSync(target)) return;
  const temporary = `${target}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  removeAbandoned(target);
  try {
    await fill(temporary);
    if (!existsSync(target)) renameSync(temporary, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
