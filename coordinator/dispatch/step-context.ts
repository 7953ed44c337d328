/** The parts that a dispatcher hands to each of its steps. */

import type { Clock } from '../../shared/base/clock.js';
import type { ClosingConfig } from '../../shared/config/closing-config.js';
import type { QueueConfig } from '../../shared/config/compute-config.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobProducer } from '../../shared/queue/job-queue.js';
import type { Job, LargeBlobs } from '../../shared/queue/protocol.js';
import type { BlobStore } from '../../shared/storage/blob-store.js';
import type { FingerprintDemand } from '../trust/fingerprint-demand.js';
import type { MachineChoice } from '../trust/machine-choice.js';
import type { Admission } from './admission.js';
import type { JobDurations } from './backup-copies.js';
import type { BlobLeases } from './blobs/blob-leases.js';
import type { JobOrder } from './dispatcher.js';
import type { LateResults } from './late-results.js';
import type { QueuePatience } from './queue-patience.js';
import type { WorkerCount } from './step-workers.js';
import type { WorkerHealth } from './worker-health.js';

/** The parts of a dispatcher that all its steps share. */
export interface DispatchContext {
  /** The epoch of the run's lease. */
  readonly epoch: number;
  /**
   * Says that this coordinator lives. It writes, so a full server refuses it.
   *
   * @throws RunFencedError if another coordinator has taken over the run.
   */
  readonly beat: () => Promise<void>;
  readonly producer: JobProducer;
  readonly blobs: BlobStore;
  readonly leases: BlobLeases;
  readonly patience: QueuePatience;
  readonly health: WorkerHealth;
  readonly fingerprints: FingerprintDemand;
  readonly machines: Pick<MachineChoice, 'make'>;
  readonly late: Pick<LateResults, 'expect'>;
  readonly durations: JobDurations;
  readonly counted: WorkerCount;
  /** Whether a job is computed by a second worker although nobody doubts its result. */
  readonly recomputes: (job: Job) => boolean;
  /** Absent where all blobs lie beside the queue. */
  readonly largeBlobs?: LargeBlobs | undefined;
  readonly limits: QueueConfig;
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

/** The input of one step. */
export interface StepCall<Value extends object> {
  readonly orders: readonly JobOrder[];
  readonly admission: Admission<Value>;
  readonly signal: AbortSignal;
  readonly attemptsMax: number;
  readonly closing: ClosingConfig;
  /** Sets the ids of this call apart from those of any other call or start. */
  readonly idSuffix: string;
}
