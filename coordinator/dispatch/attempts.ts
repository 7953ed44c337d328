/**
 * Decides whose fault a failed attempt is, the job's or a worker's, and when a job is given up
 * (decision 0015).
 */

import {
  attemptsUsedUp,
  LOST_WORKER,
  type AttemptFailure,
  type JobDelivery,
} from './job-delivery.js';
import type { WorkerHealth } from './worker-health.js';

interface AttemptsOptions {
  readonly health: WorkerHealth;
  readonly attemptsMax: number;
  readonly connectedWorkers: () => Promise<readonly string[]>;
}

export class Attempts {
  readonly #options: AttemptsOptions;

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /**
   * Notes the failure. Failures on sick workers do not count.
   *
   * @throws QianmoError `failed` when the attempts are used up and no other worker is left to try.
   */
  async failed(delivery: JobDelivery, failure: AttemptFailure): Promise<void> {
    const { health, attemptsMax } = this.#options;
    delivery.noteFailure(failure);
    const counted = delivery.countedFailures((worker) => health.isSick(worker));
    if (counted.length < attemptsMax) return;
    if (await this.#isLeftToAnother(delivery, counted)) return;
    const { where, job } = delivery;
    throw attemptsUsedUp({ where, jobIndex: job.jobIndex }, attemptsMax, failure);
  }

  /** Charges the workers that failed a job which has now succeeded elsewhere. */
  succeeded(delivery: JobDelivery, worker: string): void {
    for (const failure of delivery.failures) if (failure.worker !== worker) this.charge(failure);
    this.#options.health.didJob(worker);
  }

  /** Charges the worker that failed a job which another one has done, if its name is known. */
  charge({ worker, reason }: AttemptFailure): void {
    if (worker !== LOST_WORKER) this.#options.health.charge(worker, reason);
  }

  /**
   * A job is given up only after two workers have failed it, where there are two. The only worker that
   * has failed it is quarantined, longer each time, so that another one takes it.
   */
  async #isLeftToAnother(
    delivery: JobDelivery,
    counted: readonly AttemptFailure[],
  ): Promise<boolean> {
    const { health, connectedWorkers } = this.#options;
    const suspect = delivery.onlyWorkerOf(counted);
    // One failure tells nothing about a worker.
    if (counted.length < 2) return false;
    if (suspect === null) return false;
    if (!health.hasHealthyOther([suspect], await connectedWorkers())) return false;
    delivery.suspect = suspect;
    const reason = counted.at(-1)?.reason ?? '';
    health.sick(suspect, `it failed one job ${counted.length} times: ${reason}`);
    return true;
  }
}
