/**
 * Describes the machine, the settings and the loaded engine, and refuses to compute on another device than the
 * requested one: TensorFlow opens CUDA's libraries by name and, if one is missing, uses the CPU without an error.
 */

import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { errorOf } from '../../../shared/base/errors.js';
import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import {
  formatDeviceLine,
  gpuText,
  type DeviceReport,
} from '../../../shared/events/device-report.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import { nativeBackendOf } from '../engine/native-backend.js';
import { fingerprintOf, numericsOf } from './fingerprint.js';
import { firstVisibleGpu } from './gpus.js';

/**
 * @param environment of this process, which the libraries read.
 * @param shelves keep the graph of the numerical probe, whose results are computed each time.
 */
export async function measureDevice(
  engine: Engine,
  environment: Readonly<Record<string, string | undefined>>,
  shelves: GraphShelves | null = null,
): Promise<DeviceReport> {
  const backend = nativeBackendOf(engine.tf);
  const gpu = await firstVisibleGpu(environment);
  const numerics = numericsOf(engine, { environment, cpuinfo: cpuinfo(), gpu, shelves });
  return {
    device: backend?.isUsingGpuDevice === true ? 'gpu' : 'cpu',
    backend: engine.description,
    isNative: backend !== null,
    processor: cpus()[0]?.model.trim() || 'unknown processor',
    gpu,
    fingerprint: fingerprintOf(numerics),
    numerics,
  };
}

function cpuinfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}

/** @throws QianmoError of kind `environment` if another device computes than the requested one. */
export function requireDevice(demand: DeviceDemand, report: DeviceReport): void {
  if (demand === 'auto' || demand === report.device) return;
  if (demand === 'cpu')
    throw errorOf('environment', 'the CPU is demanded, yet TensorFlow computes on a GPU', {
      expected: 'the CPU (device: cpu)',
      found: formatDeviceLine(report),
      cure: 'start the worker with --device cpu, or demand device auto',
      isOfThisMachine: true,
    });
  const { backend, gpu, isNative } = report;
  throw errorOf('environment', 'a GPU is demanded, yet TensorFlow computes on the CPU', {
    expected: 'a GPU (device: gpu)',
    found: `${backend}; ${gpu === null ? 'no GPU that this process may see' : gpuText(gpu)}`,
    cure:
      gpu === null && isNative
        ? 'install the NVIDIA driver (525 or later), give the process a GPU (CUDA_VISIBLE_DEVICES, --gpu-index), or demand device auto'
        : 'qianmo setup --gpu installs TensorFlow with CUDA 12; TF_CPP_MAX_VLOG_LEVEL=1 makes TensorFlow say what it lacks; or demand device auto',
    isOfThisMachine: true,
  });
}
