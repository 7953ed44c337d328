/** The GPUs of this machine, as the driver lists them. */

import { execFile } from 'node:child_process';
import { GpuSchema, type Gpu } from '../../../shared/events/device-report.js';

const QUERY = [
  '--query-gpu=index,name,memory.total,driver_version,compute_cap',
  '--format=csv,noheader,nounits',
];
const QUERY_TIMEOUT_MS = 10_000;

/** Empty if there is no GPU, no driver, or a driver that does not answer. */
export function listGpus(command = 'nvidia-smi'): Promise<Gpu[]> {
  return new Promise((resolve) => {
    execFile(command, QUERY, { timeout: QUERY_TIMEOUT_MS }, (error, output) => {
      resolve(error === null ? parseGpuList(output) : []);
    });
  });
}

/** Skips lines that describe no GPU; memory may be `[N/A]` if it is shared. */
export function parseGpuList(csv: string): Gpu[] {
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
