/** The report of a worker on itself: the device that its compute process found, and the memory of both processes. */

import type { DeviceReport } from '../../shared/events/device-report.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { WorkerReport } from '../../shared/queue/workers/worker-report.js';

export class OwnReport {
  #device: WorkerReport['device'] = null;

  /** A compute process that starts tells its device. */
  hear(event: RunEvent): void {
    if (event.kind === 'compute-ready') this.#device = deviceOf(event.device);
  }

  /** @param computeResidentByteCount null before the first answer of the compute process. */
  now(computeResidentByteCount: number | null): WorkerReport {
    return {
      device: this.#device,
      residentByteCount: process.memoryUsage.rss(),
      computeResidentByteCount,
    };
  }
}

function deviceOf({ device: kind, gpu, processor }: DeviceReport): WorkerReport['device'] {
  if (kind === 'cpu') return { kind, model: processor.name, memoryMiB: null };
  return { kind, model: gpu?.name ?? 'unnamed', memoryMiB: gpu?.memoryMiB ?? null };
}
