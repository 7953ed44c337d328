/**
 * Finds out why TensorFlow uses the CPU although a GPU was requested. It opens CUDA's libraries by name
 * and, if one is missing, uses the CPU without an error.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The library of the driver, which only the driver installs. */
const DRIVER_LIBRARY = 'libcuda.so.1';
/** The libraries that TensorFlow 2.21 opens if the driver reports a GPU. */
export const CUDA_LIBRARIES = [
  'libcudart.so.12',
  'libcublas.so.12',
  'libcublasLt.so.12',
  'libcufft.so.11',
  'libcusolver.so.11',
  'libcusparse.so.12',
  'libcudnn.so.9',
] as const;
/** Matches these libraries, of any version, in the kernel's list of mapped files. */
const MAPPED_CUDA_LIBRARY =
  /\/(lib(?:cuda|cudart|cublas|cublasLt|cufft|cusolver|cusparse|cudnn)\.so[.\d]*)$/;

export interface CudaFindings {
  readonly hasDriver: boolean;
  /** The libraries of `CUDA_LIBRARIES` that do not load, in order. */
  readonly missing: readonly string[];
}

/**
 * @param folders where TensorFlow looks besides the system's folders.
 * @param open the dynamic linker; returns the reason why a library does not load, or null.
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

/** The folders in which the setup links CUDA's libraries; libtensorflow's RUNPATH names them. */
export function cudaFoldersOf(packageName: string): string[] {
  try {
    const manifest = createRequire(import.meta.url).resolve(`${packageName}/package.json`);
    const nvidia = join(dirname(manifest), 'deps', 'nvidia');
    return readdirSync(nvidia).map((name) => join(nvidia, name, 'lib'));
  } catch {
    return [];
  }
}

/** Node loads any library and then reports that it is no addon; such a library did load. */
export function openWithNode(nameOrPath: string): string | null {
  try {
    process.dlopen({ exports: {} }, nameOrPath);
    return null;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return /did not self-register/.test(message) ? null : message;
  }
}

/** Names of the CUDA libraries that this process has loaded. */
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
