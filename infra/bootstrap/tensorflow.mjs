// Native TensorFlow under tfjs-node-gpu. A failure never stops the setup: a portable backend runs
// instead.
//
// libtensorflow is extracted from its Python wheel and the addon is built on this machine. Every
// machine therefore has the same TensorFlow with the engine's own operations, and computes the same
// digests. The installation is verified by loading it in a separate process. For GPUs (`qianmo
// setup --gpu`, and automatically on a machine with a GPU if the cache has it), the wheel with CUDA
// is used, together with the CUDA libraries from their wheels.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BootstrapError,
  cacheRoot,
  digestOf,
  isCheckout,
  lastTellingLine,
  problemOf,
  projectRoot,
  publishFolder,
  readIfThere,
  runCommand,
  writeWhole,
} from './base.mjs';
import {
  CUDA_MEGABYTES,
  areCudaLibrariesCached,
  findNvidiaDriver,
  linkCudaLibraries,
  obtainCudaLibraries,
  resolveCudaLibraries,
} from './cuda-libraries.mjs';
import { buildAddon } from './native-addons.mjs';
import { NODE_API_VERSION, extractFromWheel } from './packages.mjs';

// The npm package is an optional peer dependency, which names the version but is not installed
// by npm. As a regular dependency, its install script would download a libtensorflow that qianmo
// does not use, and a failure of that download would make npm fail to install qianmo. npm installs
// the packages that it imports (@tensorflow/tfjs, google-protobuf, progress, @mapbox/node-pre-gyp)
// as dependencies of qianmo.
/** @typedef {import('./base.mjs').Announce} Announce */
/** @typedef {import('./base.mjs').StepOutcome} StepOutcome */

const TFJS_PACKAGE = '@tensorflow/tfjs-node-gpu';
/** @type {{ peerDependencies: Record<string, string> }} */
const { peerDependencies } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'));
const TFJS_VERSION = peerDependencies[TFJS_PACKAGE] ?? '';
// The integrity hash of this version's tarball. It must change with the version.
const TARBALL_INTEGRITY =
  'sha512-p//NN6DGiN4hInUmIkRffaFVMcdTREUMjPyjW04J7OXvB2zBlQimj61eFKSgRrH3f5TnOfKzb0n56he/B6a4bw==';
const DOWNLOAD_TIMEOUT_MS = 5 * 60_000;

/**
 * In a checkout, all code looks for packages in `node_modules`. In an installed package that folder
 * belongs to npm, which removes unknown packages; all code that loads TensorFlow is in `dist`.
 */
const modulesFolder = isCheckout
  ? join(projectRoot, 'node_modules')
  : join(projectRoot, 'dist', 'node_modules');

/** The path of the package, whether or not it is installed. */
export const tfjsPackageFolder = join(modulesFolder, ...TFJS_PACKAGE.split('/'));

/**
 * Installs the package as published. Its addon and libraries are added later.
 * @param {Announce} announce
 * @returns {Promise<void>} throws an Error with the problem
 */
async function placeTfjsPackage(announce) {
  if (installedVersion() === TFJS_VERSION) return;
  const cached = join(cacheRoot(), `tfjs-node-gpu-${TFJS_VERSION}`);
  if (!existsSync(cached)) {
    announce(`downloading ${TFJS_PACKAGE} ${TFJS_VERSION} from the npm registry`);
    await publishFolder(cached, fetchPackage);
  }
  // Another version, or the stamp of a failed setup.
  rmSync(tfjsPackageFolder, { recursive: true, force: true });
  await publishFolder(tfjsPackageFolder, async (folder) => {
    cpSync(cached, folder, { recursive: true });
  });
}

/** @returns {string | undefined} */
function installedVersion() {
  const manifest = readIfThere(join(tfjsPackageFolder, 'package.json'));
  return manifest === undefined ? undefined : JSON.parse(manifest).version;
}

/**
 * @param {string} folder receives the unpacked package
 * @returns {Promise<void>}
 */
async function fetchPackage(folder) {
  const download = mkdtempSync(join(tmpdir(), 'qianmo-tfjs-'));
  try {
    const pack = ['pack', `${TFJS_PACKAGE}@${TFJS_VERSION}`, '--pack-destination', download];
    const packed = await runCommand('npm', pack, { cwd: download, timeoutMs: DOWNLOAD_TIMEOUT_MS });
    if (!packed.ok) throw new Error(`${TFJS_PACKAGE}: ${packed.problem}`);
    const file = readdirSync(download).find((name) => name.endsWith('.tgz'));
    if (file === undefined) throw new Error(`${TFJS_PACKAGE}: npm pack wrote no file`);
    const tarball = join(download, file);
    const found = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
    if (found !== TARBALL_INTEGRITY) {
      throw new Error(`${TFJS_PACKAGE}: the registry's file has another hash: ${found}`);
    }
    const unpack = ['-xzf', tarball, '-C', folder, '--strip-components=1', '--no-same-owner'];
    const unpacked = await runCommand('tar', unpack);
    if (!unpacked.ok) throw new Error(`${TFJS_PACKAGE}: ${unpacked.problem}`);
  } finally {
    rmSync(download, { recursive: true, force: true });
  }
}

/** Both compute the same on a CPU; the one for GPUs opens the CUDA libraries when it sees a GPU. */
const TENSORFLOW_WHEELS = {
  cpu: { name: 'tensorflow-cpu', megabytes: 274 },
  gpu: { name: 'tensorflow', megabytes: 572 },
};
const TENSORFLOW_VERSION = '2.21.0';
// The wheel is that of one fixed Python version, so the Python of this machine does not matter.
const WHEEL_PYTHON = '311';
const WHEEL_PLATFORMS = new Map([
  ['x64', 'manylinux_2_27_x86_64'],
  ['arm64', 'manylinux_2_27_aarch64'],
]);
const WHEEL_MEMBERS = [
  'tensorflow/libtensorflow_cc.so.2',
  'tensorflow/libtensorflow_framework.so.2',
  'tensorflow/include/tensorflow/c/',
  'tensorflow/include/tensorflow/core/platform/ctstring',
  'tensorflow/include/tsl/platform/ctstring',
  'tensorflow/include/xla/tsl/c/',
];

/**
 * @typedef {object} TensorFlowLibrary
 * @property {string} cc path of libtensorflow_cc.so.2
 * @property {string} framework path of libtensorflow_framework.so.2
 * @property {string} include folder of the C headers
 */

/** @typedef {keyof typeof TENSORFLOW_WHEELS} Variant */

/**
 * @param {Variant} variant
 * @returns {TensorFlowLibrary} its paths, whether or not it is installed
 */
function libraryPaths(variant) {
  const name = `${TENSORFLOW_WHEELS[variant].name}-${TENSORFLOW_VERSION}-${process.platform}-${process.arch}`;
  const folder = join(cacheRoot(), name, 'tensorflow');
  return {
    cc: join(folder, 'libtensorflow_cc.so.2'),
    framework: join(folder, 'libtensorflow_framework.so.2'),
    include: join(folder, 'include'),
  };
}

/**
 * Returns the library from the cache, and fills the cache first if it is empty.
 * @param {Variant} variant
 * @param {Announce} announce
 * @returns {Promise<TensorFlowLibrary>} throws an Error with the problem
 */
async function obtainTensorFlowLibrary(variant, announce) {
  const library = libraryPaths(variant);
  const { name, megabytes } = TENSORFLOW_WHEELS[variant];
  if (existsSync(library.cc)) return library;
  const platform = process.platform === 'linux' && WHEEL_PLATFORMS.get(process.arch);
  if (!platform)
    throw new Error(
      `no wheel of ${name} is known for ${process.platform} ${process.arch}. Cure: use Linux on x86-64`,
    );
  const note = `extracting libtensorflow ${TENSORFLOW_VERSION} from its Python wheel (${megabytes} MB)`;
  const target = ['--python-version', WHEEL_PYTHON, '--platform', platform];
  const requirement = `${name}==${TENSORFLOW_VERSION}`;
  await publishFolder(join(library.include, '..', '..'), (folder) =>
    extractFromWheel(announce, { requirement, target, members: WHEEL_MEMBERS, note }, folder),
  );
  return library;
}

const PACKAGE_SOURCES = ['tfjs_backend.cc', 'tfjs_binding.cc'];
const OWN_SOURCES = ['sum-rows.cc', 'session-options.cc', 'signals.cc'].map((name) =>
  join(projectRoot, 'worker/compute/engine/native', name),
);
// The package's own code must ask for our session options where it asks for TensorFlow's.
const PACKAGE_FLAGS = ['-DTF_NewSessionOptions=QianmoNewSessionOptions'];

/** @returns {string} changes with the additions to the package's own sources */
function ownSourceDigest() {
  const sources = OWN_SOURCES.map((path) => readIfThere(path) ?? '');
  return digestOf([...PACKAGE_FLAGS, ...sources].join('\n')).slice(0, 8);
}

/**
 * The package tfjs-node-gpu must be installed.
 * @param {TensorFlowLibrary} library
 * @param {Announce} announce
 * @returns {Promise<string>} path of the addon in the cache; otherwise throws an Error with a cure
 */
async function obtainAddon(library, announce) {
  const versions = `${TFJS_VERSION}-tensorflow-${TENSORFLOW_VERSION}-napi-v${NODE_API_VERSION}`;
  const key = `${versions}-${ownSourceDigest()}`;
  const target = join(cacheRoot(), `tfjs-addon-${key}-${process.platform}-${process.arch}`);
  const addon = join(target, 'tfjs_binding.node');
  if (existsSync(addon)) return addon;
  const packageSources = PACKAGE_SOURCES.map((name) => join(tfjsPackageFolder, 'binding', name));
  const build = {
    name: 'tfjs_binding',
    note: 'building its addon (about 15 s)',
    sources: [
      ...packageSources.map((path) => ({ path, flags: PACKAGE_FLAGS })),
      ...OWN_SOURCES.map((path) => ({ path })),
    ],
    flags: ['-fno-rtti', `-I${library.include}`],
    linked: [library.cc, library.framework, '-Wl,-rpath,$ORIGIN/../../deps/lib'],
  };
  await publishFolder(target, (folder) => buildAddon(announce, build, folder));
  return addon;
}

const CHECK_SCRIPT = 'infra/bootstrap/check-loading.mjs';
const stampPath = join(tfjsPackageFolder, '.qianmo-native.json');
const addonPath = join(tfjsPackageFolder, 'lib', `napi-v${NODE_API_VERSION}`, 'tfjs_binding.node');
const libraryFolder = join(tfjsPackageFolder, 'deps', 'lib');
/** Where libtensorflow looks for the CUDA libraries, relative to `libraryFolder`. */
const nvidiaFolder = join(tfjsPackageFolder, 'deps', 'nvidia');

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

/** @returns {boolean} whether no action is needed, because it is installed or known to be impossible */
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
  const hadGpu = existsSync(libraryPaths('gpu').cc) && areCudaLibrariesCached();
  return hadGpu && findNvidiaDriver() !== null ? ['gpu-wheel', 'wheel'] : ['wheel'];
}

/**
 * Fills the cache with the library of a first setup, which needs no npm packages. A problem is left to the installation,
 * which meets it again.
 * @param {Announce} announce
 * @returns {Promise<void>}
 */
export async function prefetchTensorFlow(announce) {
  const [way] = waysOf(process.env['QIANMO_TENSORFLOW'] ?? 'auto');
  if (isNativeTensorFlowSettled() || way !== 'wheel') return;
  await obtainTensorFlowLibrary('cpu', announce).catch(() => undefined);
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
  try {
    const library = await obtainTensorFlowLibrary(isForGpu ? 'gpu' : 'cpu', announce);
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
    return problemOf(error);
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
