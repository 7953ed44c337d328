// Installs the npm packages of the lock file, without their install scripts.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../base/commands.mjs';
import { BootstrapError } from '../base/progress.mjs';
import { digestOf, projectRoot, readIfThere, writeWhole } from '../base/project.mjs';

const INSTALL_TIMEOUT_MS = 15 * 60_000;
const stampPath = join(projectRoot, 'node_modules', '.qianmo-stamp');

function wantedStamp() {
  const lockFile = readIfThere(join(projectRoot, 'package-lock.json')) ?? '';
  const nodeMajor = process.versions.node.split('.')[0];
  return `${digestOf(lockFile)} node ${nodeMajor} ${process.platform} ${process.arch}\n`;
}

/** @returns {boolean} */
export function areNpmPackagesCurrent() {
  return readIfThere(stampPath) === wantedStamp();
}

/**
 * Returns whether npm's own record of node_modules, written at the end of an install, matches the lock
 * file.
 * @returns {boolean}
 */
function isInstalledByHand() {
  const wanted = packagesOf(join(projectRoot, 'package-lock.json'));
  const present = packagesOf(join(projectRoot, 'node_modules', '.package-lock.json'));
  if (!wanted || !present) return false;
  return Object.entries(wanted).every(
    ([path, entry]) => path === '' || entry.optional || present[path]?.version === entry.version,
  );
}

/**
 * @param {string} lockPath
 * @returns {Record<string, { version?: string, optional?: boolean }> | undefined}
 */
function packagesOf(lockPath) {
  const text = readIfThere(lockPath);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text).packages;
  } catch {
    return undefined;
  }
}

/**
 * @param {import('../base/progress.mjs').Announce} announce
 * @returns {Promise<import('../base/progress.mjs').StepOutcome>}
 */
export async function installNpmPackages(announce) {
  if (areNpmPackagesCurrent()) return { state: 'ok', note: 'lock file unchanged' };
  if (isInstalledByHand()) {
    writeWhole(stampPath, wantedStamp());
    return { state: 'ok', note: 'matches the lock file' };
  }
  const reason = existsSync(stampPath) ? 'lock file or Node changed' : 'first time';
  announce(`installing from the lock file, ${reason} (about 15 s)`);
  const stamp = wantedStamp();
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--include=dev'];
  const options = { cwd: projectRoot, timeoutMs: INSTALL_TIMEOUT_MS };
  let installed = await runCommand('npm', args, options);
  if (!installed.ok) {
    announce(`once more (${installed.problem})`);
    installed = await runCommand('npm', args, options);
  }
  if (!installed.ok) {
    throw new BootstrapError(`npm packages could not be installed: ${installed.problem}`, [
      'check that `npm ping` answers and that the disk has 2 GiB free, then run the same command again',
    ]);
  }
  writeWhole(stampPath, stamp);
  return { state: 'ok', note: 'installed from the lock file' };
}
