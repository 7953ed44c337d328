// Native TensorFlow under tfjs-node-gpu. A failure never stops the setup: a portable backend runs
// instead.
//
// libtensorflow is extracted from its Python wheel and the addon is built on this machine. Every
// machine therefore has the same TensorFlow with the engine's own operations, and computes the same
// digests. The installation is verified by loading it in a separate process. For GPUs (`qianmo
// setup --gpu`, and automatically on a machine with a GPU if the cache has it), the wheel with CUDA
// is used, together with the CUDA libraries from their wheels.
import { copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { lastTellingLine, runCommand } from '../base/commands.mjs';
import {
  CUDA_MEGABYTES,
  areCudaLibrariesCached,
  findNvidiaDriver,
  linkCudaLibraries,
  obtainCudaLibraries,
  resolveCudaLibraries,
} from './cuda-libraries.mjs';
import { BootstrapError } from '../base/progress.mjs';
import { projectRoot, readIfThere, writeWhole } from '../base/project.mjs';
import { NODE_API_VERSION } from '../packages/compiler.mjs';
import { obtainAddon, ownSourceDigest } from './addon.mjs';
import {
  TENSORFLOW_VERSION,
  isTensorFlowLibraryCached,
  obtainTensorFlowLibrary,
} from './library.mjs';
import { placeTfjsPackage, tfjsPackageFolder } from './tfjs-package.mjs';

const CHECK_SCRIPT = 'infra/bootstrap/tensorflow/check-loading.mjs';
const stampPath = join(tfjsPackageFolder, '.qianmo-native.json');
const addonPath = join(tfjsPackageFolder, 'lib', `napi-v${NODE_API_VERSION}`, 'tfjs_binding.node');
const libraryFolder = join(tfjsPackageFolder, 'deps', 'lib');
/** Where libtensorflow looks for the CUDA libraries, relative to `libraryFolder`. */
const nvidiaFolder = join(tfjsPackageFolder, 'deps', 'nvidia');

/** @typedef {import('../base/progress.mjs').Announce} Announce */
/** @typedef {import('../base/progress.mjs').StepOutcome} StepOutcome */
/** @typedef {'wheel' | 'gpu-wheel'} Way */
/** @typedef {{ way: Way | 'none', wanted: string, note: string, cure: string[] }} Stamp */

const wantedStamp = () => {
  const choice = process.env['QIANMO_TENSORFLOW'] ?? '';
  return [TENSORFLOW_VERSION, process.platform, process.arch, ownSourceDigest(), choice].join(' ');
};

/** @returns {Stamp | undefined} the installed state, if it matches the requested one */
function readStamp() {
  const text = readIfThere(stampPath);
  if (text === undefined) return undefined;
  /** @type {Stamp} */
  const stamp = JSON.parse(text);
  if (stamp.wanted !== wantedStamp()) return undefined;
  // The libraries are links into the cache, which may have been emptied since.
  const isThere = existsSync(addonPath) && existsSync(join(libraryFolder, 'libtensorflow.so'));
  const lacksCuda = stamp.way === 'gpu-wheel' && lackingCudaLibraries().length > 0;
  return stamp.way === 'none' || (isThere && !lacksCuda) ? stamp : undefined;
}

/** @returns {string[]} names of the libraries that TensorFlow would not find */
function lackingCudaLibraries() {
  return resolveCudaLibraries(nvidiaFolder)
    .filter(({ path }) => path === null)
    .map(({ soname }) => soname);
}

/** @returns {boolean} whether TensorFlow for GPUs is installed */
export function isGpuTensorFlowInstalled() {
  return readStamp()?.way === 'gpu-wheel';
}

/**
 * @returns {boolean} whether no action is needed, because it is installed or known to be impossible
 */
export function isNativeTensorFlowSettled() {
  return readStamp() !== undefined;
}

/** @returns {string} empty when native TensorFlow is installed, otherwise the reason why not */
export function whyNoNativeTensorFlow() {
  const stamp = readStamp();
  if (stamp === undefined) return 'not set up';
  return stamp.way === 'none' ? stamp.note : '';
}

/**
 * @param {Announce} announce
 * @param {{ retry: boolean }} options retry: try again although an earlier attempt failed
 * @returns {Promise<StepOutcome>}
 */
export async function installNativeTensorFlow(announce, options) {
  const stamp = readStamp();
  if (stamp && (stamp.way !== 'none' || !options.retry)) return outcomeOf(stamp);
  const choice = process.env['QIANMO_TENSORFLOW'] ?? 'auto';
  const problems = [];
  for (const way of waysOf(choice)) {
    const check = await installAndCheck(way, announce);
    if ('note' in check) return settle({ way, wanted: wantedStamp(), ...check });
    problems.push(`${way}: ${check.problem}`);
  }
  const note = problems.join('; ') || 'QIANMO_TENSORFLOW=portable';
  const cure = [
    'NO NATIVE TENSORFLOW: training continues on a portable backend, ten or more times slower,',
    'with the same results within float tolerance. After fixing the above: qianmo setup',
  ];
  return settle({ way: 'none', wanted: wantedStamp(), note, cure });
}

/**
 * @param {string} choice QIANMO_TENSORFLOW
 * @returns {Way[]}
 */
function waysOf(choice) {
  if (choice === 'portable') return [];
  const hadGpu = isTensorFlowLibraryCached('gpu') && areCudaLibrariesCached();
  return hadGpu && findNvidiaDriver() !== null ? ['gpu-wheel', 'wheel'] : ['wheel'];
}

/**
 * TensorFlow with CUDA, or nothing: the previous installation stays until all files are downloaded.
 * @param {Announce} announce
 * @returns {Promise<StepOutcome>}
 */
export async function installGpuTensorFlow(announce) {
  const stamp = readStamp();
  if (stamp?.way === 'gpu-wheel') return outcomeOf(stamp);
  const check = await installAndCheck('gpu-wheel', announce);
  if ('note' in check) return settle({ way: 'gpu-wheel', wanted: wantedStamp(), ...check });
  throw new BootstrapError(`TensorFlow for GPUs: ${check.problem}`, [
    `Linux on x86-64, pip with its package index and 9 GB of disk are required (${CUDA_MEGABYTES + 572} MB of downloads)`,
    'then try again: qianmo setup --gpu; completed downloads are kept',
    'to continue without a GPU: qianmo setup',
  ]);
}

/**
 * @param {Way} way
 * @param {Announce} announce
 * @returns {Promise<{ note: string, cure: string[] } | { problem: string }>}
 */
async function installAndCheck(way, announce) {
  const problem = await installFromWheel(way, announce);
  if (problem !== '') return { problem };
  const check = await checkByLoading();
  if ('problem' in check) {
    // The previous installation is replaced, so the next setup must not trust its stamp.
    rmSync(stampPath, { force: true });
    return check;
  }
  const { version, device } = check;
  const note = `TensorFlow ${version} on ${device}`;
  if (way !== 'gpu-wheel') return { note, cure: hintOfGpu() };
  const lacking = lackingCudaLibraries();
  if (lacking.length > 0)
    return { problem: `${lacking.join(', ')} are missing from its search path` };
  const driver = findNvidiaDriver();
  if (driver === null)
    return { note: `${note}, with CUDA; no NVIDIA driver on this machine`, cure: [] };
  if (device === 'GPU') return { note: `${note}, driver ${driver}`, cure: [] };
  const cure = [
    'there is an NVIDIA driver, but TensorFlow computes on the CPU. To see why:',
    `TF_CPP_MAX_VLOG_LEVEL=1 node ${join(projectRoot, CHECK_SCRIPT)}`,
  ];
  return { note: `${note}, with CUDA, driver ${driver}`, cure };
}

/** @returns {string[]} how to use an idle GPU */
function hintOfGpu() {
  if (findNvidiaDriver() === null) return [];
  const gigabytes = ((CUDA_MEGABYTES + 572) / 1000).toFixed(1);
  return [
    `this machine has an NVIDIA GPU: qianmo setup --gpu uses it (${gigabytes} GB of downloads)`,
  ];
}

/** @param {Stamp} stamp */
function settle(stamp) {
  writeWhole(stampPath, JSON.stringify(stamp));
  return outcomeOf(stamp);
}

/**
 * @param {Stamp} stamp
 * @returns {StepOutcome}
 */
function outcomeOf(stamp) {
  const state = stamp.way === 'none' ? 'warning' : 'ok';
  return { state, note: stamp.note, cure: stamp.cure };
}

/**
 * @param {Way} way
 * @param {Announce} announce
 * @returns {Promise<string>} the problem, empty on success
 */
async function installFromWheel(way, announce) {
  const isForGpu = way === 'gpu-wheel';
  const obtained = await obtainTensorFlowLibrary(isForGpu ? 'gpu' : 'cpu', announce);
  if (!obtained.library) return `${obtained.problem}. Cure: ${obtained.cure}`;
  const { library } = obtained;
  try {
    if (isForGpu) await obtainCudaLibraries(announce);
    await placeTfjsPackage(announce);
    const addon = await obtainAddon(library, announce);
    rmSync(join(tfjsPackageFolder, 'deps'), { recursive: true, force: true });
    mkdirSync(libraryFolder, { recursive: true });
    for (const [name, target] of [
      ['libtensorflow.so', library.cc],
      ['libtensorflow_cc.so.2', library.cc],
      ['libtensorflow_framework.so', library.framework],
      ['libtensorflow_framework.so.2', library.framework],
    ]) {
      symlinkSync(String(target), join(libraryFolder, String(name)));
    }
    if (isForGpu) linkCudaLibraries(nvidiaFolder);
    rmSync(join(tfjsPackageFolder, 'lib'), { recursive: true, force: true });
    mkdirSync(join(addonPath, '..'), { recursive: true });
    copyFileSync(addon, addonPath);
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** @returns {Promise<{ version: string, device: string } | { problem: string }>} */
async function checkByLoading() {
  const script = join(projectRoot, CHECK_SCRIPT);
  const environment = {
    TF_CPP_MIN_LOG_LEVEL: '2',
    TF_ENABLE_ONEDNN_OPTS: '1',
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  };
  const options = { cwd: projectRoot, environment, timeoutMs: 120_000 };
  const check = await runCommand(process.execPath, [script], options);
  const line = check.output.split('\n').find((candidate) => candidate.startsWith('{"version"'));
  if (!check.ok || !line) {
    return { problem: `does not load: ${lastTellingLine(check.output) ?? check.problem}` };
  }
  return JSON.parse(line);
}
