/**
 * Remembers which workers refuse the jobs of a run, which are sick, and why.
 * A worker is sick when it says so, or when its jobs fail and then succeed elsewhere. A sick worker is
 * quarantined: it takes no job for a while, longer each time. One whose results are false is distrusted. When no connected worker is able and
 * healthy for a while, the run is given up.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';

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

  charge(worker: string, reason: string): void {
    const charges = (this.#chargesByWorker.get(worker) ?? 0) + 1;
    this.#chargesByWorker.set(worker, Math.min(charges, CHARGES_MAX));
    if (charges >= CHARGES_MAX)
      this.sick(worker, `jobs that failed here then succeeded elsewhere; the last one: ${reason}`);
  }

  didJob(worker: string): void {
    this.#noneHealthySinceMs = null;
    this.#refusalByWorker.delete(worker);
    const charges = (this.#chargesByWorker.get(worker) ?? 0) - CHARGE_PER_JOB_DONE;
    if (charges > 0) this.#chargesByWorker.set(worker, charges);
    else this.absolve(worker);
  }

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
