// Extracts the CUDA libraries from their Python wheels, keeps them in the cache, and tells which of
// them TensorFlow finds.
//
// TensorFlow opens them by name while it looks for GPUs. When any one is missing, it silently
// computes on the CPU. It searches the folders of its RUNPATH, `../nvidia/PACKAGE/lib` relative to
// its own folder. libcusolver is opened by libtensorflow_framework, whose RUNPATH lacks the folder
// of its wheel, so it gets a second link in a folder that is searched.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoot, publishFolder } from './base.mjs';
import { extractFromWheel } from './packages.mjs';

/**
 * @typedef {object} CudaWheel
 * @property {string} name
 * @property {string} version within the range of TensorFlow's own extra `and-cuda`
 * @property {string} folder within `nvidia/`
 * @property {string[]} members prefixes of the required names in its `lib`
 * @property {number} megabytes download size
 */

/** @type {readonly CudaWheel[]} */
const WHEELS = [
  wheel('cuda-runtime', '12.9.79', ['libcudart.so'], 4),
  wheel('cublas', '12.9.3.13', ['libcublas.so', 'libcublasLt.so'], 581),
  wheel('cufft', '11.4.1.4', ['libcufft.so'], 201),
  wheel('cusolver', '11.7.5.82', ['libcusolver.so'], 338),
  wheel('cusparse', '12.5.10.65', ['libcusparse.so'], 366),
  wheel('cudnn', '9.28.0.42', ['libcudnn'], 717),
  wheel('nvjitlink', '12.9.86', ['libnvJitLink.so'], 40),
  wheel('cuda-nvrtc', '12.9.86', ['libnvrtc.so', 'libnvrtc-builtins.so'], 90),
  wheel('cuda-cupti', '12.9.79', ['libcupti.so'], 11),
  wheel('nccl', '2.32.3', ['libnccl.so'], 352),
];
export const CUDA_MEGABYTES = WHEELS.reduce((sum, { megabytes }) => sum + megabytes, 0);

const WHEEL_TARGET = ['--python-version', '311'].concat(
  ['2_27', '2_25', '2_17', '2_12', '2014', '2010'].flatMap((tag) => [
    '--platform',
    `manylinux${tag.includes('_') ? '_' : ''}${tag}_x86_64`,
  ]),
);

/**
 * The libraries that TensorFlow 2.21 opens when it sees a GPU, in its order, as observed with a
 * stub of the driver.
 */
const OPENED_AT_START = [
  'libcudart.so.12',
  'libcublas.so.12',
  'libcublasLt.so.12',
  'libcufft.so.11',
  'libcusolver.so.11',
  'libcusparse.so.12',
  'libcudnn.so.9',
];
/** Folders of `nvidia/` in the RUNPATH of libtensorflow_framework.so.2, in its order. */
const SEARCHED_FOLDERS = [
  'nccl',
  'cuda_cupti',
  'cublas',
  'cudnn',
  'cufft',
  'cusparse',
  'cuda_runtime',
];
/** The libraries that those open or need in turn, by the folder that their own RUNPATH names. */
const OPENED_IN_TURN = [
  ...[
    'libcudnn_graph.so.9',
    'libcudnn_ops.so.9',
    'libcudnn_cnn.so.9',
    'libcudnn_adv.so.9',
    'libcudnn_heuristic.so.9',
    'libcudnn_engines_precompiled.so.9',
    'libcudnn_engines_runtime_compiled.so.9',
  ].map((soname) => ({ soname, folder: 'cudnn' })),
  { soname: 'libnvJitLink.so.12', folder: 'nvjitlink' },
  { soname: 'libnvrtc.so.12', folder: 'cuda_nvrtc' },
];
/** Holds the second links of libraries whose folders are not searched. */
const FOLDER_OF_SECOND_LINKS = 'cuda_runtime';

/**
 * @param {string} part
 * @param {string} version
 * @param {string[]} members
 * @param {number} megabytes
 * @returns {CudaWheel}
 */
function wheel(part, version, members, megabytes) {
  const folder = part.replaceAll('-', '_');
  return { name: `nvidia-${part}-cu12`, version, folder, members, megabytes };
}

/** @param {CudaWheel} wheel */
function libraryFolderOf({ name, version, folder }) {
  return join(cacheRoot(), `${name}-${version}-linux-x64`, 'nvidia', folder, 'lib');
}

/** @returns {boolean} whether all of them are in the cache */
export function areCudaLibrariesCached() {
  return WHEELS.every((wheel) => existsSync(libraryFolderOf(wheel)));
}

/**
 * Fills the cache, wheel by wheel, so that an interrupted setup keeps its progress.
 * @param {import('./base.mjs').Announce} announce
 * @returns {Promise<void>} throws an Error with the problem and its cure
 */
export async function obtainCudaLibraries(announce) {
  for (const wheel of WHEELS) {
    const libraries = libraryFolderOf(wheel);
    if (existsSync(libraries)) continue;
    const requirement = `${wheel.name}==${wheel.version}`;
    const note = `extracting the libraries from ${requirement} (${wheel.megabytes} MB)`;
    const members = wheel.members.map((prefix) => `nvidia/${wheel.folder}/lib/${prefix}`);
    members.push(`${wheel.name.replaceAll('-', '_')}-${wheel.version}.dist-info/licenses/`);
    members.push(`${wheel.name.replaceAll('-', '_')}-${wheel.version}.dist-info/License`);
    await publishFolder(join(libraries, '..', '..', '..'), (folder) =>
      extractFromWheel(announce, { requirement, target: WHEEL_TARGET, members, note }, folder),
    );
  }
}

/**
 * Links the libraries where TensorFlow looks for them. The folders are real and only the files are
 * links, because the libraries refer to each other's folders through `..`.
 * @param {string} nvidiaFolder next to the folder of libtensorflow
 */
export function linkCudaLibraries(nvidiaFolder) {
  rmSync(nvidiaFolder, { recursive: true, force: true });
  for (const wheel of WHEELS) {
    const source = libraryFolderOf(wheel);
    const folder = join(nvidiaFolder, wheel.folder, 'lib');
    mkdirSync(folder, { recursive: true });
    for (const name of readdirSync(source)) symlinkSync(join(source, name), join(folder, name));
    if (SEARCHED_FOLDERS.includes(wheel.folder)) continue;
    const second = join(nvidiaFolder, FOLDER_OF_SECOND_LINKS, 'lib');
    mkdirSync(second, { recursive: true });
    for (const name of readdirSync(source).filter((name) => OPENED_AT_START.includes(name))) {
      symlinkSync(join(source, name), join(second, name));
    }
  }
}

/**
 * @param {string} nvidiaFolder
 * @param {(path: string) => boolean} [isThere] follows links
 * @returns {{ soname: string, path: string | null }[]} where TensorFlow, and the libraries that it
 *   opens, find each library; null if it is missing, in which case TensorFlow would compute on the CPU
 */
export function resolveCudaLibraries(nvidiaFolder, isThere = existsSync) {
  const first = (/** @type {string} */ soname, /** @type {string[]} */ folders) => {
    const candidates = folders.map((folder) => join(nvidiaFolder, folder, 'lib', soname));
    return { soname, path: candidates.find((path) => isThere(path)) ?? null };
  };
  return [
    ...OPENED_AT_START.map((soname) => first(soname, SEARCHED_FOLDERS)),
    ...OPENED_IN_TURN.map(({ soname, folder }) => first(soname, [folder])),
  ];
}

/** @returns {string | null} version of the kernel's NVIDIA driver; null if there is none */
export function findNvidiaDriver() {
  try {
    const text = readFileSync('/proc/driver/nvidia/version', 'utf8');
    return /\b\d+\.\d+(\.\d+)?\b/.exec(text)?.[0] ?? 'of unknown version';
  } catch {
    return existsSync('/dev/nvidiactl') || existsSync('/dev/dxg') ? 'of unknown version' : null;
  }
}
