/** The report of a worker on itself: the device that its compute process found, and the memory of both processes. */

import type { FoundDevice } from '../../shared/events/device-report.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import type { WorkerReport } from '../../shared/queue/workers/worker-report.js';

/** Null for an executor that tells no device. */
export function ownReport(
  executor: Pick<JobExecutor, 'foundDevice' | 'residentByteCount'>,
): WorkerReport | null {
  if (executor.foundDevice === undefined) return null;
  const found = executor.foundDevice();
  return {
    device: found && deviceOf(found),
    residentByteCount: process.memoryUsage.rss(),
    computeResidentByteCount: executor.residentByteCount?.() ?? null,
  };
}

function deviceOf({
  device: kind,
  gpu,
  processor,
  fingerprint: found,
  isPortable,
}: FoundDevice): WorkerReport['device'] {
  const fingerprint = isPortable ? null : found;
  if (kind === 'cpu') return { kind, model: processor.name, memoryMiB: null, fingerprint };
  return { kind, model: gpu?.name ?? '', memoryMiB: gpu?.memoryMiB ?? null, fingerprint };
}
