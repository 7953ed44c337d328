/** The device and the memory of a worker on a queue, in words. */

import type { ReportedWorker } from '../../../shared/queue/job-queue.js';

type Said = Pick<ReportedWorker, 'device' | 'report'>;

const BYTES_PER_MIB = 1_024 * 1_024;
const MIB_PER_GIB = 1_024;
const NOT_REPORTED = 'not reported';
const NAMES = { cpu: 'CPU', gpu: 'GPU' } as const;

/** `CPU` or `GPU`; what was asked of a worker that does not say what it has. */
export function deviceKind({ device, report }: Said): string {
  const found = report?.device ?? null;
  return found === null ? device : NAMES[found.kind];
}

/** `GPU (NVIDIA H100, 80 GiB)` */
export function deviceText(worker: Said): string {
  const found = worker.report?.device ?? null;
  if (found === null) return worker.device === 'auto' ? NOT_REPORTED : worker.device;
  const { model, memoryMiB } = found;
  const gibibytes = ((memoryMiB ?? 0) / MIB_PER_GIB).toFixed(0);
  const details = [model, gibibytes === '0' ? '' : `${gibibytes} GiB`]
    .filter((text) => text !== '')
    .join(', ');
  return details === '' ? deviceKind(worker) : `${deviceKind(worker)} (${details})`;
}

/** `90 + 410 MiB`: the worker, and its compute process. */
export function memoryText({ report }: Pick<Said, 'report'>): string {
  if (report === null) return NOT_REPORTED;
  const mebibytes = (byteCount: number): string => (byteCount / BYTES_PER_MIB).toFixed(0);
  const { residentByteCount, computeResidentByteCount: ofCompute } = report;
  const parts = [residentByteCount, ...(ofCompute === null ? [] : [ofCompute])].map(mebibytes);
  return `${parts.join(' + ')} MiB`;
}
