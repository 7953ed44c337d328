// Makes a fresh checkout or a freshly installed package runnable. Steps that do not need each other
// run side by side. Each is quick when no action is needed. For an installed package, npm has installed the dependencies and the
// code is already compiled. When run directly (`npm run setup`), it retries the steps that an
// earlier setup had to skip; with --gpu (`npm run setup:gpu`) it installs TensorFlow for GPUs, or
// fails.
import {
  accessSync,
  constants,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import {
  BootstrapError,
  NODE_CURE,
  SUPPORTED_NODE,
  cacheRoot,
  digestOf,
  failWith,
  isAlive,
  isCheckout,
  isNodeSupported,
  projectRoot,
  runStep,
  say,
  tell,
} from './base.mjs';
import { buildProject, isBuildCurrent } from './build.mjs';
import { rowAddon, scoringAddon } from './native-addons.mjs';
import { areNpmPackagesCurrent, installNpmPackages } from './packages.mjs';
import {
  installGpuTensorFlow,
  installNativeTensorFlow,
  isNativeTensorFlowSettled,
  prefetchTensorFlow,
} from './tensorflow.mjs';

/** Throws a BootstrapError when this Node is not supported. */
export function checkNodeVersion() {
  if (isNodeSupported()) return;
  throw new BootstrapError(`${SUPPORTED_NODE} is needed, this is Node ${process.versions.node}`, [
    NODE_CURE,
  ]);
}

/** @returns {boolean} whether the product can run as it is; takes about ten milliseconds */
export function isSetUp() {
  const isNativeSettled =
    isNativeTensorFlowSettled() && rowAddon.isSettled() && scoringAddon.isSettled();
  if (!isCheckout) return isNativeSettled;
  return areNpmPackagesCurrent() && isNativeSettled && isBuildCurrent();
}

/** Throws a BootstrapError when files cannot be installed into this package. */
function checkWritable() {
  const folder = isCheckout ? projectRoot : join(projectRoot, 'dist');
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    throw new BootstrapError(
      `qianmo is not set up, and this user cannot write to ${folder}, where the native addon is installed`,
      ['install qianmo in a folder that you own: npm install qianmo, then npx qianmo setup'],
    );
  }
}

/**
 * @typedef {object} SetUpResult
 * @property {import('./embedded-redis.mjs').RedisServerProgram | null} redisServer
 * @property {import('./s3-server.mjs').S3ServerProgram | null} s3Server
 * @property {string} s3Problem empty when there is an S3 server or none was requested
 */

/**
 * @param {{ forTests?: boolean, retry?: boolean, gpu?: boolean, onPackages?: () => void }} [options]
 *   forTests: also install the requirements of tests; retry: retry failed steps; gpu: TensorFlow for
 *   GPUs, or fail; onPackages: called when the npm packages are installed
 * @returns {Promise<SetUpResult>}
 */
export async function setUp(options = {}) {
  checkNodeVersion();
  if (!isSetUp()) checkWritable();
  if (!isNativeTensorFlowSettled()) {
    tell(`setting up; downloads are kept in ${cacheRoot()}; the first setup takes a few minutes`);
  }
  const retry = (options.retry ?? false) || (options.forTests ?? false);
  return withSetupLock(async () => {
    const packages = isCheckout ? runStep('npm packages', installNpmPackages) : undefined;
    const afterPackages = Promise.resolve(packages).then(() => options.onPackages?.());
    const [redisServer, s3] = await Promise.all([
      obtainRedis(),
      options.forTests ? obtainS3() : { server: null, problem: '' },
      afterPackages.then(() => (isCheckout ? runStep('build', buildProject) : undefined)),
      runStep('native TensorFlow', async (announce) => {
        if (!options.gpu) await prefetchTensorFlow(announce);
        await afterPackages;
        return options.gpu
          ? installGpuTensorFlow(announce)
          : installNativeTensorFlow(announce, { retry });
      }),
      runStep('loops over table rows', (announce) => rowAddon.install(announce, { retry })),
      runStep('scoring kernel', (announce) => scoringAddon.install(announce, { retry })),
    ]);
    return { redisServer, s3Server: s3.server, s3Problem: s3.problem };
  });
}

/** @returns {Promise<SetUpResult['redisServer']>} */
async function obtainRedis() {
  const { obtainRedisServer } = await import('./embedded-redis.mjs');
  /** @type {SetUpResult['redisServer']} */
  let server = null;
  await runStep('Redis server', async (announce) => {
    const obtained = await obtainRedisServer(announce);
    server = obtained.server;
    if (obtained.server) return { state: 'ok', note: obtained.server.version };
    if (process.env['QIANMO_REDIS_URL'])
      return { state: 'ok', note: 'QIANMO_REDIS_URL names a server' };
    return { state: 'warning', note: obtained.problem, cure: obtained.cure };
  });
  return server;
}

/** @returns {Promise<{ server: SetUpResult['s3Server'], problem: string }>} */
async function obtainS3() {
  const { obtainS3Server } = await import('./s3-server.mjs');
  /** @type {{ server: SetUpResult['s3Server'], problem: string }} */
  let result = { server: null, problem: '' };
  await runStep('S3 server for tests', async (announce) => {
    const obtained = await obtainS3Server(announce);
    if (obtained.server) {
      result = { server: obtained.server, problem: '' };
      return { state: 'ok', note: 'versitygw' };
    }
    result = { server: null, problem: obtained.problem };
    return { state: 'warning', note: obtained.problem, cure: obtained.cure };
  });
  return result;
}

const WAIT_MS_MAX = 15 * 60_000;
const POLL_MS = 250;
const UNSIGNED_LOCK_AGE_MS_MAX = 10_000;

/**
 * Runs `work` while holding the lock. A lock left by a process that has ended is taken over.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withSetupLock(work) {
  const folder = join(cacheRoot(), 'locks', digestOf(projectRoot));
  mkdirSync(join(cacheRoot(), 'locks'), { recursive: true });
  const deadlineMs = Date.now() + WAIT_MS_MAX;
  for (let attempt = 0; !tryTake(folder); attempt += 1) {
    if (attempt === 0) tell('...  another setup of this checkout is running: waiting for it');
    if (Date.now() > deadlineMs) {
      throw new BootstrapError('another setup of this checkout has been running for 15 minutes', [
        `stop it (process ${readHolder(folder) ?? 'unknown'}), then try again`,
      ]);
    }
    await delay(POLL_MS);
  }
  const release = () => rmSync(folder, { recursive: true, force: true });
  // An exit runs the 'exit' handlers, which also end the running command. A signal alone would not.
  const leave = () => process.exit(130);
  process.once('exit', release);
  process.once('SIGINT', leave);
  process.once('SIGTERM', leave);
  try {
    return await work();
  } finally {
    process.removeListener('exit', release);
    process.removeListener('SIGINT', leave);
    process.removeListener('SIGTERM', leave);
    release();
  }
}

/**
 * @param {string} folder
 * @returns {boolean} true when this process has acquired the lock
 */
function tryTake(folder) {
  try {
    mkdirSync(folder);
  } catch {
    if (!isAbandoned(folder)) return false;
    rmSync(folder, { recursive: true, force: true });
    return tryTake(folder);
  }
  writeFileSync(join(folder, 'pid'), String(process.pid));
  return true;
}

/** @param {string} folder */
function isAbandoned(folder) {
  const holder = readHolder(folder);
  if (holder !== undefined) return !isAlive(holder);
  try {
    return Date.now() - statSync(folder).mtimeMs > UNSIGNED_LOCK_AGE_MS_MAX;
  } catch {
    return false;
  }
}

/**
 * @param {string} folder
 * @returns {number | undefined}
 */
function readHolder(folder) {
  try {
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await setUp({ retry: true, gpu: process.argv.includes('--gpu') });
    say('ready: npm run demo, or node infra/bootstrap/qianmo.mjs --help');
  } catch (error) {
    failWith(error);
  }
}
