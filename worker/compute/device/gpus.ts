/** The GPUs of this machine, as the driver lists them, and which of them one compute process may see. */

import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import { GpuSchema, type Gpu } from '../../../shared/events/device-report.js';
import { execFile } from 'node:child_process';

type Environment = Readonly<Record<string, string | undefined>>;

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
export async function countUsableGpus(environment: Environment): Promise<number> {
  return allowedGpus(environment['CUDA_VISIBLE_DEVICES'])?.length ?? (await listGpus()).length;
}

/**
 * The value of `CUDA_VISIBLE_DEVICES` for one compute process, which uses one GPU: the `gpuIndex`-th of
 * those that the inherited value allows. Undefined leaves it unchanged.
 */
function visibleDevicesFor(
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
export async function firstVisibleGpu(environment: Environment): Promise<Gpu | null> {
  const gpus = await listGpus();
  const allowed = allowedGpus(environment['CUDA_VISIBLE_DEVICES']);
  if (allowed === null) return gpus[0] ?? null;
  const [first] = allowed;
  // A device may also be named by its UUID, which the list does not contain.
  return gpus.find(({ index }) => String(index) === first) ?? null;
}

/** The environment of a compute process that sees its own GPU and no other. */
export function computeEnvironment(
  environment: Environment,
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

const QUERY = [
  '--query-gpu=index,name,memory.total,driver_version,compute_cap',
  '--format=csv,noheader,nounits',
];
const QUERY_TIMEOUT_MS = 10_000;

/** Empty if there is no GPU, no driver, or a driver that does not answer. */
function listGpus(): Promise<Gpu[]> {
  return new Promise((resolve) => {
    execFile('nvidia-smi', QUERY, { timeout: QUERY_TIMEOUT_MS }, (error, output) => {
      resolve(error === null ? parseGpuList(output) : []);
    });
  });
}

/** Skips lines that describe no GPU; memory may be `[N/A]` if it is shared. */
function parseGpuList(csv: string): Gpu[] {
  return csv.split('\n').flatMap((line) => {
    const [index, name, memory, driverVersion, computeCapability] = line
      .split(',')
      .map((part) => part.trim());
    const parsed = GpuSchema.safeParse({
      index: index === undefined || index === '' ? null : Number(index),
      name,
      memoryMiB: Number.parseInt(memory ?? '', 10) || 0,
      driverVersion,
      computeCapability,
    });
    return parsed.success ? [parsed.data] : [];
  });
}
