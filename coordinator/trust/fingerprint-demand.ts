/**
 * The kind of machine that a dispatcher admits results from: the one that a job demands, else the one that was
 * chosen among the connected workers, else that of the first admitted result. So bits of two kinds of machines never
 * reach one run.
 */

import type { RunEventSink } from '../../shared/events/run-events.js';
import type { Job, JobResult } from '../../shared/queue/protocol.js';

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

/** The reason why a worker of another kind is no worker of the run. */
export function otherFingerprintReason(demanded: string | null, found: string): string {
  return (
    `its result has fingerprint ${found}, and the run computes on ${demanded ?? 'another one'}; ` +
    'cure: use machines of one kind, or train with compute.portable: true'
  );
}
