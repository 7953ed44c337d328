// Extracts libtensorflow and its C headers from TensorFlow's Python wheel, and keeps them in the
// cache.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoot, publishFolder } from '../base/project.mjs';
import { extractFromWheel, obtainPip } from '../packages/python-wheel.mjs';

/** Both compute the same on a CPU; the one for GPUs opens the CUDA libraries when it sees a GPU. */
const WHEELS = {
  cpu: { name: 'tensorflow-cpu', megabytes: 274 },
  gpu: { name: 'tensorflow', megabytes: 572 },
};
export const TENSORFLOW_VERSION = '2.21.0';
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

/** @typedef {keyof typeof WHEELS} Variant */

/**
 * @param {Variant} variant
 * @returns {TensorFlowLibrary} its paths, whether or not it is installed
 */
function libraryPaths(variant) {
  const name = `${WHEELS[variant].name}-${TENSORFLOW_VERSION}-${process.platform}-${process.arch}`;
  const folder = join(cacheRoot(), name, 'tensorflow');
  return {
    cc: join(folder, 'libtensorflow_cc.so.2'),
    framework: join(folder, 'libtensorflow_framework.so.2'),
    include: join(folder, 'include'),
  };
}

/**
 * @param {Variant} variant
 * @returns {boolean}
 */
export function isTensorFlowLibraryCached(variant) {
  return existsSync(libraryPaths(variant).cc);
}

/**
 * Returns the library from the cache, and fills the cache first if it is empty.
 * @param {Variant} variant
 * @param {import('../base/progress.mjs').Announce} announce
 * @returns {Promise<{ library: TensorFlowLibrary } | { library: null, problem: string, cure: string }>}
 */
export async function obtainTensorFlowLibrary(variant, announce) {
  const library = libraryPaths(variant);
  const { name, megabytes } = WHEELS[variant];
  if (existsSync(library.cc)) return { library };
  const wheelPlatform = process.platform === 'linux' && WHEEL_PLATFORMS.get(process.arch);
  if (!wheelPlatform) {
    const problem = `no wheel of ${name} is known for ${process.platform} ${process.arch}`;
    return { library: null, problem, cure: 'use Linux on x86-64' };
  }
  const pip = await obtainPip(announce);
  if ('problem' in pip) return { library: null, problem: pip.problem, cure: pip.cure };
  announce(
    `extracting libtensorflow ${TENSORFLOW_VERSION} from its Python wheel (${megabytes} MB)`,
  );
  const target = ['--python-version', WHEEL_PYTHON, '--platform', wheelPlatform];
  const requirement = `${name}==${TENSORFLOW_VERSION}`;
  const cacheFolder = join(library.include, '..', '..');
  try {
    await publishFolder(cacheFolder, async (folder) => {
      const wheel = { requirement, target, members: WHEEL_MEMBERS };
      const extracted = await extractFromWheel(pip.python, wheel, folder);
      if (!extracted.ok) throw new Error(extracted.problem);
    });
    return { library };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    const cure = 'check that pip reaches its package index and that 2 GiB are free, then try again';
    return { library: null, problem, cure };
  }
}
