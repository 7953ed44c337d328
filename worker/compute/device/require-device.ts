/**
 * Refuses to compute on another device than the requested one, and says why it is not used: TensorFlow opens CUDA's
 * libraries by name and, if one is missing, uses the CPU without an error.
 */

import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  formatDeviceLine,
  gpuText,
  type DeviceReport,
} from '../../../shared/events/device-report.js';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/**
 * @param findings called only if the request is not met, since it opens libraries.
 * @throws QianmoError of kind `environment` if another device computes than the requested one.
 */
export function requireDevice(
  demand: DeviceDemand,
  report: DeviceReport,
  findings: () => CudaFindings,
): void {
  if (demand === 'auto' || demand === report.device) return;
  if (demand === 'cpu')
    throw new QianmoError({
      kind: 'environment',
      what: 'the CPU is demanded, yet TensorFlow computes on a GPU',
      expected: 'the CPU (device: cpu)',
      found: formatDeviceLine(report),
      cure: 'start the worker with --device cpu, or demand device auto',
      isOfThisMachine: true,
    });
  const { hasDriver, missing } = findings();
  const found = [report.backend];
  found.push(report.gpu === null ? 'no GPU that this process may see' : gpuText(report));
  if (!hasDriver) found.push('the driver (libcuda.so.1) does not load');
  if (missing.length > 0) found.push(`CUDA libraries that do not load: ${missing.join(', ')}`);
  throw new QianmoError({
    kind: 'environment',
    what: 'a GPU is demanded, yet TensorFlow computes on the CPU',
    expected: 'a GPU (device: gpu)',
    found: found.join('; '),
    cure: cureOf(report, hasDriver, missing),
    isOfThisMachine: true,
  });
}

function cureOf(report: DeviceReport, hasDriver: boolean, missing: readonly string[]): string {
  if (!report.isNative || missing.length > 0)
    return 'qianmo setup --gpu installs TensorFlow with CUDA 12; or demand device auto';
  if (!hasDriver) return 'install the NVIDIA driver (525 or later), or demand device auto';
  if (report.gpu === null)
    return 'give the process a GPU (CUDA_VISIBLE_DEVICES, --gpu-index), or demand device auto';
  return 'qianmo setup --gpu, should the installed TensorFlow be the one without CUDA; TF_CPP_MAX_VLOG_LEVEL=1 makes TensorFlow say why';
}

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

interface CudaFindings {
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
