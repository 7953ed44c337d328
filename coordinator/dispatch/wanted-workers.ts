/** The number of workers that the jobs of a dispatcher could use, told when it changes. */

import type { DeviceDemand } from '../../shared/config/compute-config.js';
import { leafCountOf, type Job } from '../../shared/queue/protocol.js';
import { DEVICE_POOLS, type DevicePool } from '../../shared/names/event-terms.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

interface WantedBy {
  readonly job: Pick<Job, 'device' | 'work'>;
}

export class WantedWorkers {
  readonly #sink: RunEventSink;
  readonly #told = new Map<DevicePool, number>();

  constructor(sink: RunEventSink) {
    this.#sink = sink;
  }

  /** One worker for each leaf: deliveries are cut for the workers that there are. More would find nothing to do. */
  want(orders: readonly WantedBy[]): void {
    for (const device of DEVICE_POOLS)
      this.#tell(
        device,
        orders
          .filter(({ job }) => poolOf(job.device) === device)
          .reduce((sum, { job }) => sum + leafCountOf(job), 0),
      );
  }

  #tell(device: DevicePool, workerCount: number): void {
    if ((this.#told.get(device) ?? 0) === workerCount) return;
    this.#told.set(device, workerCount);
    this.#sink({ kind: 'workers-wanted', device, workerCount });
  }
}

function poolOf(demand: DeviceDemand): DevicePool {
  return demand === 'gpu' ? 'gpu' : 'cpu';
}
