/**
 * Follows one job through the queue: counts its deliveries and decides what a record of the queue
 * means for it. Pure, apart from counting.
 */

import { DivergenceError, QianmoError, type FailureReport } from '../../shared/base/errors.js';
import { randomStream } from '../../shared/base/random.js';
import { parseJobFailure, type JobFailure } from '../../shared/queue/job-failure.js';
import type { JobRecord } from '../../shared/queue/job-queue.js';
import { jobIdOf, JobResultSchema, type Job, type JobResult } from '../../shared/queue/protocol.js';
import { termFields, type DeliveryTerms, type JobOrder, type Rejection } from './dispatcher.js';

const REDELIVERY_DELAY_MS_MIN = 100;
const REDELIVERY_DELAY_MS_MAX = 5_000;
const DECLINED_DELAY_MS_MAX = 200;
/** In place of the name of a lost worker that nobody has seen with the job. */
export const LOST_WORKER = '';

/**
 * - `open`: the job waits, or `holder` has it.
 * - `result`: a worker finished it. Its output must still be fetched and judged.
 * - `lost`: the queue or a blob vanished. This costs no attempt.
 * - `refused`: the worker that took it cannot do it, but another may. This costs no attempt.
 * - `declined`: the job asked the worker that took it to leave it to others.
 * - `sick`: the machine of the worker failed, not the job. This costs no attempt.
 * - `failed`: the worker failed at it. This costs an attempt.
 * - `worker-lost`: its worker is lost. This is a failure of that worker, unless Redis was away.
 * - `forged`: its result is not signed as it must be. This costs an attempt.
 * - `hopeless`: no worker can ever do it.
 */
export type Fate =
  | { readonly kind: 'open'; readonly holder: string | null }
  | { readonly kind: 'result'; readonly result: JobResult }
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly worker: string }
  | { readonly kind: 'declined' }
  | { readonly kind: 'sick'; readonly reason: string; readonly worker: string }
  | { readonly kind: 'failed'; readonly reason: string; readonly worker: string }
  | { readonly kind: 'worker-lost'; readonly reason: string }
  | { readonly kind: 'forged'; readonly reason: string; readonly worker: string }
  | { readonly kind: 'hopeless'; readonly reason: string };

export function fateOf(record: JobRecord, job: Job): Fate {
  switch (record.state) {
    case 'open':
      return { kind: 'open', holder: record.holder };
    case 'gone':
      return { kind: 'lost', reason: 'the queue has lost the job' };
    case 'completed': {
      const parsed = JobResultSchema.safeParse(record.returnValue);
      if (parsed.success && isOf(parsed.data, job)) return { kind: 'result', result: parsed.data };
      const { worker } = record;
      if (parsed.success)
        return { kind: 'failed', reason: 'its result is that of another job', worker };
      const path = parsed.error.issues[0]?.path ?? [];
      const place = path.length === 0 ? '' : ` (at ${path.join('.')})`;
      return { kind: 'failed', reason: `its result cannot be read${place}`, worker };
    }
    case 'failed':
      return fateOfFailure(parseJobFailure(record.reason), record.worker);
    case 'forged':
      return { kind: 'forged', reason: record.reason, worker: record.worker };
  }
}

function fateOfFailure({ kind, reason }: JobFailure, worker: string): Fate {
  switch (kind) {
    case 'blob-missing':
      return { kind: 'lost', reason };
    case 'refused':
    case 'sick':
      return { kind, reason, worker };
    case 'declined':
      return { kind };
    case 'permanent':
      return { kind: 'hopeless', reason };
    case 'worker-lost':
      // The worker in the record is the one that found the job without its worker.
      return { kind, reason };
    case 'transient':
      return { kind: 'failed', reason, worker };
  }
}

/**
 * A result of another job must not close this one: that job's own result would become a duplicate.
 */
function isOf(result: JobResult, { runId, outerStep, jobIndex }: Job): boolean {
  return result.runId === runId && result.outerStep === outerStep && result.jobIndex === jobIndex;
}

/** The failure of one attempt at a job. */
export interface AttemptFailure {
  /** The worker that failed, or `LOST_WORKER`. */
  readonly worker: string;
  readonly reason: string;
  readonly rejection?: Rejection;
  readonly cause?: unknown;
}

const ANY_WORKER: DeliveryTerms = { fingerprint: null, notBy: [] };

/** A second delivery beside the present one. */
interface Copy {
  readonly number: number;
  readonly job: Job;
  readonly sentMs: number;
}

/** Counts deliveries, each with an id of its own, and remembers failed attempts. */
export class JobDelivery {
  readonly order: JobOrder;
  #job: Job;
  readonly #idSuffix: string;
  #deliveryCount = 1;
  /** The number of the present delivery. */
  #number = 1;
  #copy: Copy | null = null;
  /** When the present delivery was put on the queue, on the coordinator's monotonic clock. */
  sentMs = 0;
  readonly #failures: AttemptFailure[] = [];
  /** The worker that this job alone has made suspect, so that another one confirms its failures. */
  suspect: string | null = null;

  constructor(order: JobOrder, job: Job, idSuffix: string) {
    this.order = order;
    this.#job = job;
    this.#idSuffix = idSuffix;
  }

  get job(): Job {
    return this.#job;
  }

  get jobId(): string {
    return this.#idOf(this.#number);
  }

  /** Null when the present delivery is the only one. */
  get copyId(): string | null {
    return this.#copy === null ? null : this.#idOf(this.#copy.number);
  }

  /** The delay of the present delivery: 0 for the first, then doubling. */
  get delayMs(): number {
    if (this.#deliveryCount === 1) return 0;
    const delayMs = REDELIVERY_DELAY_MS_MIN * 2 ** Math.min(this.#deliveryCount - 2, 16);
    return Math.min(delayMs, REDELIVERY_DELAY_MS_MAX);
  }

  /**
   * The delay after a worker has left the job to others. It is another one each time, so that the same jobs do not
   * reach the same workers over and over.
   */
  get declinedDelayMs(): number {
    return randomStream(0, 'declined', this.jobId).below(DECLINED_DELAY_MS_MAX);
  }

  /** Begins the next delivery under another id. Results of the present one are ignored. */
  deliverAgain(terms: DeliveryTerms = ANY_WORKER): void {
    this.#deliveryCount += 1;
    this.#number = this.#deliveryCount;
    this.#job = this.#jobUnder(terms);
  }

  /** Begins a second delivery beside the present one. */
  beginCopy(terms: DeliveryTerms, sentMs: number): { readonly jobId: string; readonly job: Job } {
    this.#deliveryCount += 1;
    this.#copy = { number: this.#deliveryCount, job: this.#jobUnder(terms), sentMs };
    return { jobId: this.#idOf(this.#copy.number), job: this.#copy.job };
  }

  /** Makes the copy the present delivery, and the present one its copy. Returns false when there is no copy. */
  swapCopy(): boolean {
    if (this.#copy === null) return false;
    const { number, job, sentMs } = this.#copy;
    this.#copy = { number: this.#number, job: this.#job, sentMs: this.sentMs };
    [this.#number, this.#job, this.sentMs] = [number, job, sentMs];
    return true;
  }

  /** Makes the copy the present delivery, which has ended. Returns false when there is no copy. */
  takeCopy(): boolean {
    const isThere = this.swapCopy();
    this.dropCopy();
    return isThere;
  }

  dropCopy(): void {
    this.#copy = null;
  }

  noteFailure(failure: AttemptFailure): void {
    this.#failures.push(failure);
  }

  /** All failed attempts, in order. */
  get failures(): readonly AttemptFailure[] {
    return this.#failures;
  }

  /** The failures that are the job's own: those on sick workers are not, but for the suspect's. */
  countedFailures(isSick: (worker: string) => boolean): readonly AttemptFailure[] {
    return this.#failures.filter(({ worker }) => worker === this.suspect || !isSick(worker));
  }

  /** The worker of all these failures; null when several have failed, or lost ones. */
  onlyWorkerOf(failures: readonly AttemptFailure[]): string | null {
    const worker = failures[0]?.worker ?? LOST_WORKER;
    const isOne = failures.every((failure) => failure.worker === worker);
    return isOne && worker !== LOST_WORKER ? worker : null;
  }

  hopeless(reason: string): QianmoError {
    return new QianmoError({
      kind: 'failed',
      what: 'a job can never be done',
      where: this.where,
      found: reason,
      cure: 'correct what the worker found, then continue with --resume',
    });
  }

  get where(): string {
    const { runId, outerStep, jobIndex, work } = this.job;
    return `run ${runId}, outer step ${outerStep}, ${work.kind} job ${jobIndex}`;
  }

  #idOf(deliveryNumber: number): string {
    return `${jobIdOf(this.job, deliveryNumber)}-${this.#idSuffix}`;
  }

  #jobUnder(terms: DeliveryTerms): Job {
    const { notBy: _notBy, fingerprint: _fingerprint, ...job } = this.#job;
    const fingerprint = terms.fingerprint ?? this.order.job.fingerprint ?? null;
    return { ...job, ...termFields({ ...terms, fingerprint }) };
  }
}

/** A job that is given up: its index and its last failure. */
interface GivenUpJob {
  readonly jobIndex: number;
  readonly reason: string;
}

class JobGivenUpError extends QianmoError {
  readonly job: GivenUpJob;
  constructor(report: FailureReport, job: GivenUpJob) {
    super(report);
    this.job = job;
  }
}

class JobDivergedError extends DivergenceError {
  readonly job: GivenUpJob;
  constructor(report: FailureReport, job: GivenUpJob) {
    super(report);
    this.job = job;
  }
}

/** Null when the error is not that of a given-up job. */
export function givenUpJobOf(error: unknown): GivenUpJob | null {
  return error instanceof JobGivenUpError || error instanceof JobDivergedError ? error.job : null;
}

const DIVERGES =
  'training diverges: lower method.innerRate or training.optimizer.rate and train again';

/** The error of a job that is given up, whichever dispatcher carried it. */
export function attemptsUsedUp(
  { where, jobIndex }: { readonly where: string; readonly jobIndex: number },
  attemptsMax: number,
  { reason, rejection, cause }: Omit<AttemptFailure, 'worker'>,
): QianmoError {
  const Failure = rejection === 'not_finite' ? JobDivergedError : JobGivenUpError;
  const report: FailureReport = {
    kind: 'failed',
    what: 'a job used up its attempts',
    where,
    expected: `a usable result within ${attemptsMax} attempts`,
    found: reason,
    cure:
      rejection === 'not_finite'
        ? DIVERGES
        : 'see the reason above; raise queue.jobTimeoutMs after a missed deadline, queue.jobAttemptsMax for passing faults',
    ...(cause === undefined ? {} : { cause }),
  };
  return new Failure(report, { jobIndex, reason });
}
