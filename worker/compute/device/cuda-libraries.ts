/**
 * Why TensorFlow took the CPU although a GPU was wanted: it opens CUDA's libraries by name, and
 * when any one is missing it goes on without a word.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The driver's, which comes with the driver and from nowhere else. */
const DRIVER_LIBRARY = 'libcuda.so.1';
/** What TensorFlow 2.21 opens once the driver shows it a GPU. */
export const CUDA_LIBRARIES = [
  'libcudart.so.12',
  'libcublas.so.12',
  'libcublasLt.so.12',
  'libcufft.so.11',
  'libcusolver.so.11',
  'libcusparse.so.12',
  'libcudnn.so.9',
] as const;
/** Those of any version, as the kernel lists what is mapped. */
const MAPPED_CUDA_LIBRARY =
  /\/(lib(?:cuda|cudart|cublas|cublasLt|cufft|cusolver|cusparse|cudnn)\.so[.\d]*)$/;

export interface CudaFindings {
  readonly hasDriver: boolean;
  /** Of `CUDA_LIBRARIES`, those that do not load, in order. */
  readonly missing: readonly string[];
}

/**
 * @param folders where TensorFlow looks beside the system's own places.
 * @param open the dynamic linker; gives why it does not load, null when it does.
 */
export function findCudaLibraries(
  folders: readonly string[],
  open: (nameOrPath: string) => string | null,
): CudaFindings {
  const loads = (name: string): boolean =>
    [...folders.map((folder) => join(folder, name)), name].some((path) => open(path) === null);
  return {
    hasDriver: open(DRIVER_LIBRARY) === null,
    missing: CUDA_LIBRARIES.filter((name) => !loads(name)),
  };
}

/** Where the set-up links CUDA's libraries: folders that libtensorflow's RUNPATH names. */
export function cudaFoldersOf(packageName: string): string[] {
  try {
    const manifest = createRequire(import.meta.url).resolve(`${packageName}/package.json`);
    const nvidia = join(dirname(manifest), 'deps', 'nvidia');
    return readdirSync(nvidia).map((name) => join(nvidia, name, 'lib'));
  } catch {
    return [];
  }
}

/** Node opens any library and then complains that it is no addon of its own: that one did load. */
export function openWithNode(nameOrPath: string): string | null {
  try {
    process.dlopen({ exports: {} }, nameOrPath);
    return null;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return /did not self-register/.test(message) ? null : message;
  }
}

/** Names of CUDA's libraries in this process: what is used, not what is installed. */
export function mappedCudaLibraries(mapsPath = '/proc/self/maps'): string[] {
  try {
    const names = readFileSync(mapsPath, 'utf8')
      .split('\n')
      .flatMap((line) => MAPPED_CUDA_LIBRARY.exec(line)?.[1] ?? []);
    return [...new Set(names)].sort();
  } catch {
    return [];
  }
}
