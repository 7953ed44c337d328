// A C++ compiler and the headers of Node-API, for the native addons.
//
// The compiler is called directly, because node-gyp would also need Python and make and would
// download Node's headers from outside the package registries. Node-API is stable: an addon built by
// any supported version of Node loads in all of them, so the version of Node is not part of the keys
// of addons in the cache.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { findOnPath, runCommand } from '../base/commands.mjs';
import { cacheRoot, publishFolder } from '../base/project.mjs';
import { extractFromWheel, obtainPip } from './python-wheel.mjs';
import {
  canInstallSystemPackages,
  installCommand,
  installSystemPackages,
} from './system-packages.mjs';

export const NODE_API_VERSION = 8;
const HEADERS_PACKAGE = 'node-api-headers@1.9.0';
const COMPILER_WHEEL = 'ziglang==0.15.2';
const COMPILERS = ['g++', 'c++', 'clang++'];
const DEBIAN_PACKAGES = ['g++', 'libc6-dev'];
const COMPILE_TIMEOUT_MS = 10 * 60_000;

/** @typedef {import('../base/progress.mjs').Announce} Announce */

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
  const installed = await installSystemPackages(DEBIAN_PACKAGES);
  const compiler = installed.ok ? findCompiler() : undefined;
  if (compiler) return compiler;
  const fromWheel = await obtainZig(announce);
  if (typeof fromWheel !== 'string') return fromWheel;
  throw new Error(
    `no C++ compiler (${installed.problem}; Zig's wheel: ${fromWheel}). Install one: ${installCommand(DEBIAN_PACKAGES)}`,
  );
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
 * @returns {Promise<Compiler | string>} a string gives the reason for the failure
 */
async function obtainZig(announce) {
  const pip = await obtainPip(announce);
  if ('problem' in pip) return pip.problem;
  announce('no compiler and not root: extracting Zig from its Python wheel for this build');
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-zig-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const wheel = { requirement: COMPILER_WHEEL, members: ['ziglang/'] };
  const extracted = await extractFromWheel(pip.python, wheel, folder);
  if (!extracted.ok) return extracted.problem;
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
