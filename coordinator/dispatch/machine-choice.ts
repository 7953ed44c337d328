/**
 * Chooses the kind of machine that computes a run which demands none: GPUs before CPUs, then the kind of most
 * workers, then the smallest fingerprint. So it does not depend on which worker is the first to answer.
 *
 * The choice is made before the first jobs are sent, and again before the first result is admitted where no worker was
 * connected then: jobs must be on the queue for pools that grow with it. It is also made again where the worker that
 * stood for the kind refuses its jobs. Workers that are still measuring their device are waited for, but not for long.
 * Where nobody says what computes, the first result decides.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { ConnectedWorker } from '../../shared/queue/job-queue.js';
import type { Job, JobResult } from '../../shared/queue/protocol.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

type DemandingJob = Pick<Job, 'fingerprint'>;

export class FingerprintDemand {
  readonly #sink: RunEventSink;
  #taken: Pick<JobResult, 'fingerprint' | 'worker'> | null = null;
  /** Whether a result has been admitted: another kind would then change bits. */
  #isConfirmed = false;

  constructor(sink: RunEventSink) {
    this.#sink = sink;
  }

  /** Returns the fingerprint that a result of the job must have; null for any. */
  of({ fingerprint }: DemandingJob): string | null {
    return fingerprint ?? this.#taken?.fingerprint ?? null;
  }

  admits(job: DemandingJob, { fingerprint }: Pick<JobResult, 'fingerprint'>): boolean {
    const demanded = this.of(job);
    return demanded === null || demanded === fingerprint;
  }

  /** Called with each admitted result. The first one decides where nothing was chosen. */
  take(result: Pick<JobResult, 'fingerprint' | 'worker'>): void {
    this.choose(result);
    this.#isConfirmed = true;
  }

  /** Drops the choice if the worker stood for it and no result has confirmed it: its kind may be of no use. */
  reconsider({ refusedBy }: { readonly refusedBy: string }): void {
    if (!this.#isConfirmed && this.#taken?.worker === refusedBy) this.#taken = null;
  }

  /** Decides, until it is reconsidered, where jobs demand nothing and nothing was chosen. */
  choose({ fingerprint, worker }: Pick<JobResult, 'fingerprint' | 'worker'>): void {
    if (this.#taken !== null) return;
    this.#taken = { fingerprint, worker };
    this.#sink({ kind: 'fingerprint-taken', fingerprint, fromWorker: worker });
  }
}

const MEASURED_WITHIN_MS = 5_000;
const LOOK_INTERVAL_MS = 250;

type ChosenFor = Pick<Job, 'device' | 'portable' | 'fingerprint'>;
type Choice = Pick<JobResult, 'fingerprint' | 'worker'>;

interface Kind extends Choice {
  readonly isGpu: boolean;
  workerCount: number;
}

/** Returns null if no worker that may compute the job says what it computes on. */
export function preferredMachine(
  workers: readonly Pick<ConnectedWorker, 'name' | 'report'>[],
  { device: demand }: Pick<Job, 'device'>,
): Choice | null {
  const kinds = new Map<string, Kind>();
  for (const { name: worker, report } of workers) {
    const { kind, fingerprint } = report?.device ?? {};
    if (fingerprint === undefined || fingerprint === null) continue;
    if (demand !== 'auto' && demand !== kind) continue;
    const known = kinds.get(fingerprint);
    if (known === undefined)
      kinds.set(fingerprint, { fingerprint, worker, isGpu: kind === 'gpu', workerCount: 1 });
    else known.workerCount += 1;
  }
  const [first] = [...kinds.values()].sort(
    (a, b) =>
      Number(b.isGpu) - Number(a.isGpu) ||
      b.workerCount - a.workerCount ||
      (a.fingerprint < b.fingerprint ? -1 : 1),
  );
  return first === undefined ? null : { fingerprint: first.fingerprint, worker: first.worker };
}

interface MachineChoiceOptions {
  readonly fingerprints: Pick<FingerprintDemand, 'of' | 'choose'>;
  /** Asks for the workers that are fit, until the time in milliseconds of the clock. */
  readonly workers: (untilMs: number) => Promise<readonly ConnectedWorker[]>;
  readonly clock: Clock;
}

export class MachineChoice {
  readonly #options: MachineChoiceOptions;
  #underWay: Promise<void> | null = null;

  constructor(options: MachineChoiceOptions) {
    this.#options = options;
  }

  /** Does nothing where the kind is known. Portable jobs have none that workers know before they compute one. */
  async make(job: ChosenFor, signal: AbortSignal): Promise<void> {
    if (job.portable || this.#options.fingerprints.of(job) !== null) return;
    this.#underWay ??= this.#made(job, signal).finally(() => (this.#underWay = null));
    await this.#underWay;
  }

  async #made(job: ChosenFor, signal: AbortSignal): Promise<void> {
    const { fingerprints, clock } = this.#options;
    const untilMs = clock.monotonicMs() + MEASURED_WITHIN_MS;
    for (;;) {
      const workers = await this.#options.workers(untilMs).catch(() => []);
      const isMeasuring = workers.some(({ report }) => report !== null && report.device === null);
      if (signal.aborted) return;
      if (!isMeasuring || clock.monotonicMs() >= untilMs) {
        const choice = preferredMachine(workers, job);
        if (choice !== null) fingerprints.choose(choice);
        return;
      }
      await clock.sleep(LOOK_INTERVAL_MS, signal);
    }
  }
}
