// Makes a fresh checkout or a freshly installed package runnable, step by step. Each step is quick
// when no action is needed. For an installed package, npm has installed the dependencies and the
// code is already compiled. When run directly (`npm run setup`), it retries the steps that an
// earlier setup had to skip; with --gpu (`npm run setup:gpu`) it installs TensorFlow for GPUs, or
// fails.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { areNpmPackagesCurrent, installNpmPackages } from './packages/npm-packages.mjs';
import { buildProject, isBuildCurrent } from './build.mjs';
import {
  installGpuTensorFlow,
  installNativeTensorFlow,
  isNativeTensorFlowSettled,
} from './tensorflow/native-tensorflow.mjs';
import { scoringAddon } from './serving/scoring-addon.mjs';
import { rowAddon } from './tables/row-addon.mjs';
import { NODE_CURE, SUPPORTED_NODE, isNodeSupported } from './node-version.mjs';
import { BootstrapError, failWith, runStep, say } from './base/progress.mjs';
import { cacheRoot, isCheckout, projectRoot } from './base/project.mjs';
import { withSetupLock } from './setup-lock.mjs';

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
 * @property {string[]} typeErrors
 * @property {import('../services/redis-binary.mjs').RedisServerProgram | null} redisServer
 * @property {import('../services/s3-server.d.mts').S3ServerProgram | null} s3Server
 * @property {string} s3Problem empty when there is an S3 server or none was requested
 */

/**
 * @param {{ forTests?: boolean, retry?: boolean, gpu?: boolean }} [options] forTests: also install
 *   the requirements of tests; retry: retry failed steps; gpu: TensorFlow for GPUs, or fail
 * @returns {Promise<SetUpResult>}
 */
export async function setUp(options = {}) {
  checkNodeVersion();
  if (!isSetUp()) checkWritable();
  if (!isNativeTensorFlowSettled()) {
    say(`setting up; downloads are kept in ${cacheRoot()}; the first setup takes a few minutes`);
  }
  const retry = (options.retry ?? false) || (options.forTests ?? false);
  return withSetupLock(async () => {
    if (isCheckout) await runStep('npm packages', installNpmPackages);
    await runStep('native TensorFlow', (announce) =>
      options.gpu ? installGpuTensorFlow(announce) : installNativeTensorFlow(announce, { retry }),
    );
    await runStep('loops over table rows', (announce) => rowAddon.install(announce, { retry }));
    await runStep('scoring kernel', (announce) => scoringAddon.install(announce, { retry }));
    const redisServer = await obtainRedis();
    const s3 = options.forTests ? await obtainS3() : { server: null, problem: '' };
    const typeErrors = isCheckout ? await build() : [];
    return { typeErrors, redisServer, s3Server: s3.server, s3Problem: s3.problem };
  });
}

/** @returns {Promise<string[]>} the type errors */
async function build() {
  let errors = /** @type {string[]} */ ([]);
  await runStep('build', async (announce) => {
    const built = await buildProject(announce);
    errors = built.errors;
    return built;
  });
  return errors;
}

/** @returns {Promise<SetUpResult['redisServer']>} */
async function obtainRedis() {
  const { obtainRedisServer } = await import('../services/redis-binary.mjs');
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
  const { obtainS3Server } = await import('../services/s3-binary.mjs');
  /** @type {{ server: SetUpResult['s3Server'], problem: string }} */
  let result = { server: null, problem: '' };
  await runStep('S3 server for tests', async (announce) => {
    const obtained = await obtainS3Server(announce);
    if (obtained.server) {
      result = { server: obtained.server, problem: '' };
      return { state: 'ok', note: obtained.server.kind };
    }
    result = { server: null, problem: obtained.problem };
    return { state: 'warning', note: obtained.problem, cure: obtained.cure };
  });
  return result;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await setUp({ retry: true, gpu: process.argv.includes('--gpu') });
    say('ready: npm run demo, or node infra/bin/qianmo.mjs --help');
  } catch (error) {
    failWith(error);
  }
}
