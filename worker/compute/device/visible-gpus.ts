/** Which GPUs of a machine one compute process may see. It imports nothing, so a worker starts its compute process with it. */

import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import type { Gpu } from '../../../shared/events/device-report.js';

/** The value that means "no device" to CUDA. */
const NO_GPU = '-1';

/** The devices that `CUDA_VISIBLE_DEVICES` allows; null if it is not set, which allows all. */
function allowedGpus(visibleDevices: string | undefined): string[] | null {
  if (visibleDevices === undefined) return null;
  const names = visibleDevices.split(',').map((name) => name.trim());
  // CUDA uses the entries before the first that is no device.
  const end = names.findIndex((name) => name === '' || name === NO_GPU);
  return end < 0 ? names : names.slice(0, end);
}

/** The number of GPUs that the processes started here are distributed over. */
export function countUsableGpus(gpus: readonly Gpu[], visibleDevices: string | undefined): number {
  return allowedGpus(visibleDevices)?.length ?? gpus.length;
}

/**
 * The value of `CUDA_VISIBLE_DEVICES` for one compute process, which uses one GPU: the `gpuIndex`-th of
 * those that the inherited value allows. Undefined leaves it unchanged.
 */
export function visibleDevicesFor(
  device: DeviceDemand,
  gpuIndex: number | undefined,
  inherited: string | undefined,
): string | undefined {
  if (device === 'cpu') return NO_GPU;
  if (gpuIndex === undefined) return inherited;
  const allowed = allowedGpus(inherited);
  return allowed === null ? String(gpuIndex) : (allowed[gpuIndex] ?? NO_GPU);
}

/** The first GPU that a process sees, which is the only one that it uses. */
export function firstVisibleGpu(
  gpus: readonly Gpu[],
  visibleDevices: string | undefined,
): Gpu | null {
  const allowed = allowedGpus(visibleDevices);
  if (allowed === null) return gpus[0] ?? null;
  const [first] = allowed;
  // A device may also be named by its UUID, which the list does not contain.
  return gpus.find(({ index }) => String(index) === first) ?? null;
}

/** The environment of a compute process that sees its own GPU and no other. */
export function computeEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  device: DeviceDemand,
  gpuIndex: number | undefined,
): Record<string, string | undefined> {
  const visible = visibleDevicesFor(device, gpuIndex, environment['CUDA_VISIBLE_DEVICES']);
  return visible === undefined
    ? { ...environment }
    : { ...environment, CUDA_VISIBLE_DEVICES: visible };
}

/** Workers on one machine are assigned to its GPUs round-robin. */
export function gpuIndexOfWorker(workerIndex: number, gpuCount: number): number | undefined {
  return gpuCount === 0 ? undefined : workerIndex % gpuCount;
}
