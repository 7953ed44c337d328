/**
 * Decides which results of one outer step count. Every dispatcher judges its deliveries here, so that a result of
 * another step, a second result and a damaged blob are refused in the same way. It also chooses the kind of machine of a
 * run that demands none, so that bits of two kinds never reach one run.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import { taskCountOf, type Job, type JobResult } from '../../shared/queue/protocol.js';
import type { Admitted, DeliveredResult, JobOrder, ReadResult, Rejection } from './dispatcher.js';
import type { ConnectedWorker } from '../../shared/queue/job-queue.js';

export interface AdmissionRecord {
  readonly rejections: Map<Rejection, number>;
  readonly fingerprints: FingerprintDemand;
  /** Events of the dispatcher go through it, since a result is told at once after `workers-missing`. */
  readonly sink: RunEventSink;
  readonly admitted: (counts: Omit<RunEventOf<'results-admitted'>, 'kind'>) => void;
}

const ADMITTED_INTERVAL_MS = 10_000;

export function admissionRecord(told: RunEventSink, clock: Clock): AdmissionRecord {
  let nextMs = clock.monotonicMs() + ADMITTED_INTERVAL_MS;
  const sink: RunEventSink = (event, source) => {
    if (event.kind === 'workers-missing') nextMs = Number.NEGATIVE_INFINITY;
    told(event, source);
  };
  return {
    ...{ rejections: new Map(), fingerprints: new FingerprintDemand(sink), sink },
    admitted: (counts) => {
      const nowMs = clock.monotonicMs();
      if (nowMs < nextMs) return;
      nextMs = nowMs + ADMITTED_INTERVAL_MS;
      sink({ kind: 'results-admitted', ...counts });
    },
  };
}

interface ResultOrigin {
  readonly outerStep: number;
  readonly jobIndex: number;
  readonly worker: string;
}

export class Admission<Value extends object> {
  readonly #read: ReadResult<Value>;
  readonly #record: AdmissionRecord;
  readonly #orderByJobIndex: ReadonlyMap<number, JobOrder>;
  readonly #admitted = new Set<number>();

  constructor(orders: readonly JobOrder[], read: ReadResult<Value>, record: AdmissionRecord) {
    this.#read = read;
    this.#record = record;
    this.#orderByJobIndex = new Map(orders.map((order) => [order.job.jobIndex, order]));
  }

  /** Opens an admitted job again, whose sums were lost. */
  reopen(jobIndex: number): void {
    this.#admitted.delete(jobIndex);
  }

  get openCount(): number {
    return this.#orderByJobIndex.size - this.#admitted.size;
  }

  /** Admits the result, or counts and returns the reason for refusing it. */
  judge(delivered: DeliveredResult): Admitted<Value> | Rejection {
    const judged = this.#judged(delivered);
    if (typeof judged === 'string') this.refuse(delivered.result, judged);
    else {
      this.#record.fingerprints.take(judged.result);
      const { jobIndex } = judged.result;
      this.#admitted.add(jobIndex);
      this.#record.admitted({
        outerStep: judged.result.outerStep,
        ...{ admittedJobCount: this.#admitted.size, jobCount: this.#orderByJobIndex.size },
      });
    }
    return judged;
  }

  refuse({ outerStep, jobIndex, worker }: ResultOrigin, rejection: Rejection): void {
    const { rejections, sink } = this.#record;
    rejections.set(rejection, (rejections.get(rejection) ?? 0) + 1);
    sink({ kind: 'result-refused', outerStep, jobIndex, fromWorker: worker, rejection });
  }

  #judged(delivered: DeliveredResult): Admitted<Value> | Rejection {
    const { result, output } = delivered;
    const job = this.#orderByJobIndex.get(result.jobIndex)?.job;
    if (job === undefined) return 'not_of_this_step';
    if (result.runId !== job.runId || result.outerStep !== job.outerStep) return 'not_of_this_step';
    if (this.#admitted.has(result.jobIndex)) return 'duplicate';
    if (!this.#record.fingerprints.admits(job, result)) return 'other_fingerprint';
    if (output.byteLength === 0 || output.byteLength !== result.output.byteCount)
      return 'wrong_blob';
    const hasSums = result.sums !== undefined;
    if (result.taskCount !== taskCountOf(job) || hasSums !== (job.keepsSums === true))
      return 'layout_mismatch';
    const value = this.#read(delivered);
    return typeof value === 'string' ? value : { result, value };
  }
}

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
