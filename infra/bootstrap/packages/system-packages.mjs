// Debian packages: installs missing ones if permitted, otherwise gives the command.
import { existsSync } from 'node:fs';
import { findOnPath, runCommand } from '../base/commands.mjs';

const APT_TIMEOUT_MS = 10 * 60_000;
let listsFetched = false;

/** @returns {boolean} */
export function canInstallSystemPackages() {
  return existsSync('/etc/debian_version') && !!findOnPath('apt-get') && process.getuid?.() === 0;
}

/**
 * @param {string[]} names Debian package names
 * @returns {string} the command that installs them
 */
export function installCommand(names) {
  return `apt-get update && apt-get install -y --no-install-recommends ${names.join(' ')} (as root)`;
}

/**
 * @param {string[]} names Debian package names
 * @returns {Promise<{ ok: boolean, problem: string }>}
 */
export async function installSystemPackages(names) {
  if (!canInstallSystemPackages()) {
    return { ok: false, problem: 'needs root on Debian or Ubuntu' };
  }
  const environment = { DEBIAN_FRONTEND: 'noninteractive' };
  if (!listsFetched) {
    const update = await runCommand('apt-get', ['update'], {
      environment,
      timeoutMs: APT_TIMEOUT_MS,
    });
    if (!update.ok) return { ok: false, problem: update.problem };
    listsFetched = true;
  }
  const args = ['install', '-y', '--no-install-recommends', ...names];
  return runCommand('apt-get', args, { environment, timeoutMs: APT_TIMEOUT_MS });
}
