/**
 * Remembers which workers refuse the jobs of a run, which are sick, and why.
 * A worker is sick when it says so, or when its jobs fail and then succeed elsewhere. A sick worker is
 * quarantined: it takes no job for a while, longer each time. One whose results are false is distrusted. When no connected worker is able and
 * healthy for a while, the run is given up.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import {
  type AttemptFailure,
  attemptsUsedUp,
  type JobDelivery,
  LOST_WORKER,
} from './job-delivery.js';

/** Long enough to restart a capable worker after a crash, or to free a disk. */
export const NONE_HEALTHY_MS_MAX = 60_000;
const QUARANTINE_MS_MIN = 5_000;
const QUARANTINE_MS_MAX = 60_000;
/** This many failures of jobs that then succeed elsewhere make a worker sick. */
const CHARGES_MAX = 3;
/** A job done takes back a quarter of a charge: a worker may fail one job in five. */
const CHARGE_PER_JOB_DONE = 0.25;
/** A worker that does not heed it loses its results all the same. */
const DISTRUST_QUARANTINE_MS = 600_000;
const NAMED_COUNT_MAX = 3;

type Distrust = RunEventOf<'worker-distrusted'>;

interface Sickness {
  reason: string;
  /** Quarantines since the worker was last healthy. */
  quarantineCount: number;
  endMs: number;
}

interface WorkerHealthOptions {
  readonly clock: Clock;
  readonly sink: RunEventSink;
}

export class WorkerHealth {
  readonly #clock: Clock;
  readonly #sink: RunEventSink;
  readonly #refusalByWorker = new Map<string, string>();
  readonly #sicknessByWorker = new Map<string, Sickness>();
  readonly #chargesByWorker = new Map<string, number>();
  /** The reasons why nothing of a worker is used. */
  readonly #distrustByWorker = new Map<string, string>();
  /** Quarantines that the queue does not know yet. */
  readonly #dueQuarantines = new Map<string, number>();
  #noneHealthySinceMs: number | null = null;

  constructor({ clock, sink }: WorkerHealthOptions) {
    this.#clock = clock;
    this.#sink = sink;
  }

  /** Whether no worker is known to refuse or to be sick. */
  get isUnclouded(): boolean {
    const known = [this.#refusalByWorker, this.#sicknessByWorker, this.#distrustByWorker];
    return known.every((byWorker) => byWorker.size === 0);
  }

  get isAnySick(): boolean {
    return this.#sicknessByWorker.size > 0;
  }

  refused(worker: string, reason: string): void {
    if (this.#refusalByWorker.get(worker) === reason) return;
    this.#refusalByWorker.set(worker, reason);
    this.#sink({ kind: 'worker-refused', refusingWorker: worker, reason });
  }

  /** Quarantines the worker. One that is in quarantine finishes the jobs that it held. */
  sick(worker: string, reason: string): void {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#sicknessByWorker.get(worker);
    if (known !== undefined && nowMs < known.endMs) return;
    const quarantineCount = (known?.quarantineCount ?? 0) + 1;
    const quarantineMs = Math.min(
      QUARANTINE_MS_MIN * 2 ** (quarantineCount - 1),
      QUARANTINE_MS_MAX,
    );
    this.#sicknessByWorker.set(worker, { reason, quarantineCount, endMs: nowMs + quarantineMs });
    this.#dueQuarantines.set(worker, quarantineMs);
    this.#sink({ kind: 'worker-quarantined', quarantinedWorker: worker, reason, quarantineMs });
  }

  /** Notes that a job failed on one worker and then succeeded on another. */
  charge(worker: string, reason: string): void {
    const charges = (this.#chargesByWorker.get(worker) ?? 0) + 1;
    this.#chargesByWorker.set(worker, Math.min(charges, CHARGES_MAX));
    if (charges >= CHARGES_MAX)
      this.sick(worker, `jobs that failed here then succeeded elsewhere; the last one: ${reason}`);
  }

  /** Notes that a worker has done a job of this run. */
  didJob(worker: string): void {
    this.#noneHealthySinceMs = null;
    this.#refusalByWorker.delete(worker);
    const charges = (this.#chargesByWorker.get(worker) ?? 0) - CHARGE_PER_JOB_DONE;
    if (charges > 0) this.#chargesByWorker.set(worker, charges);
    else this.absolve(worker);
  }

  /** Forgets that a worker was sick. */
  absolve(worker: string): void {
    this.#chargesByWorker.delete(worker);
    this.#sicknessByWorker.delete(worker);
  }

  isSick(worker: string): boolean {
    return this.#sicknessByWorker.has(worker);
  }

  /** Returns each quarantine once, in milliseconds by worker, for the queue to enforce. */
  takeQuarantines(): ReadonlyMap<string, number> {
    const due = new Map(this.#dueQuarantines);
    this.#dueQuarantines.clear();
    return due;
  }

  /** Whether a connected worker other than these neither refuses nor is sick. */
  hasHealthyOther(workers: readonly string[], connected: readonly string[]): boolean {
    return connected.some((name) => !workers.includes(name) && !this.#isClouded(name));
  }

  /** Results of the worker are false. It stays distrusted as long as this run. */
  distrust(worker: string, found: Omit<Distrust, 'distrustedWorker'>): void {
    if (!this.#distrustByWorker.has(worker)) this.#sink({ ...found, distrustedWorker: worker });
    this.#distrustByWorker.set(worker, found.reason);
    this.#dueQuarantines.set(worker, DISTRUST_QUARANTINE_MS);
  }

  /** The workers of which nothing is used. */
  get distrusted(): readonly string[] {
    return [...this.#distrustByWorker.keys()];
  }

  /**
   * Returns `give-up` when every connected worker has refused or been sick for
   * `NONE_HEALTHY_MS_MAX`. The caller asks at intervals.
   */
  judge(connected: readonly string[]): 'wait' | 'give-up' {
    // An empty list means that Redis was away or that workers are restarting.
    if (connected.length > 0) this.#forgetAllBut(connected);
    const isEveryOne = connected.length > 0 && connected.every((name) => this.#isClouded(name));
    const nowMs = this.#clock.monotonicMs();
    const sinceMs = this.#noneHealthySinceMs ?? nowMs;
    this.#noneHealthySinceMs = isEveryOne ? sinceMs : null;
    return isEveryOne && nowMs - sinceMs >= NONE_HEALTHY_MS_MAX ? 'give-up' : 'wait';
  }

  /** Returns `worker a: no GPU; worker b: the disk is full`, or null when all are healthy. */
  describe(): string | null {
    if (this.isUnclouded) return null;
    const reasons = new Map([
      ...[...this.#sicknessByWorker].map(([worker, { reason }]) => [worker, reason] as const),
      ...this.#refusalByWorker,
      ...this.#distrustByWorker,
    ]);
    const named = [...reasons]
      .slice(0, NAMED_COUNT_MAX)
      .map(([worker, reason]) => `worker ${worker}: ${reason}`);
    const restCount = reasons.size - named.length;
    return [...named, ...(restCount > 0 ? [`and ${restCount} more`] : [])].join('; ');
  }

  #isClouded(worker: string): boolean {
    const known = [this.#refusalByWorker, this.#sicknessByWorker, this.#distrustByWorker];
    return known.some((byWorker) => byWorker.has(worker));
  }

  #forgetAllBut(connected: readonly string[]): void {
    const known = [this.#refusalByWorker, this.#sicknessByWorker, this.#chargesByWorker];
    for (const byWorker of known)
      for (const worker of byWorker.keys())
        if (!connected.includes(worker)) byWorker.delete(worker);
  }
}

/**
 * Decides whose fault a failed attempt is, the job's or a worker's, and when a job is given up
 * (decision 0028).
 */

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
