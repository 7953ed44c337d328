/**
 * Follows one job through the queue: counts its deliveries and decides what a record of the queue
 * means for it. Pure, apart from counting.
 */

import {
  DivergenceError,
  type FailureReport,
  QianmoError,
  errorOf,
} from '../../shared/base/errors.js';
import { type JobFailure, parseJobFailure } from '../../shared/queue/queue-errors.js';
import type { JobRecord } from '../../shared/queue/job-queue.js';
import {
  jobIdOf,
  type JobResult,
  JobResultSchema,
  type CarriedJob,
} from '../../shared/queue/protocol.js';
import type { JobOrder, Rejection } from './dispatcher.js';

const REDELIVERY_DELAY_MS_MIN = 100;
const REDELIVERY_DELAY_MS_MAX = 5_000;

/** The pause before a job is tried again, whichever dispatcher carries it: 0 before the first attempt, then doubling. */
export function redeliveryDelayMs(failedCount: number): number {
  if (failedCount === 0) return 0;
  const delayMs = REDELIVERY_DELAY_MS_MIN * 2 ** Math.min(failedCount - 1, 16);
  return Math.min(delayMs, REDELIVERY_DELAY_MS_MAX);
}

/** In place of the name of a lost worker that nobody has seen with the job. */
export const LOST_WORKER = '';

/**
 * - `open`: the job waits, or `holder` has it.
 * - `result`: a worker finished it. Its output must still be fetched and judged.
 * - `lost`: the queue or a blob vanished. This costs no attempt.
 * - `refused`: the worker that took it cannot do it, but another may. This costs no attempt.
 * - `sick`: the machine of the worker failed, not the job. This costs no attempt.
 * - `failed`: the worker failed at it. This costs an attempt.
 * - `worker-lost`: its worker is lost. This is a failure of that worker, unless Redis was away.
 * - `forged`: its result is not signed as it must be. This costs an attempt.
 * - `hopeless`: no worker can ever do it.
 */
type Fate =
  | { readonly kind: 'open'; readonly holder: string | null }
  | { readonly kind: 'result'; readonly result: JobResult }
  | { readonly kind: 'lost' | 'worker-lost' | 'hopeless'; readonly reason: string }
  | {
      readonly kind: 'refused' | 'sick' | 'failed' | 'forged';
      readonly reason: string;
      readonly worker: string;
    };

export interface ReadJob {
  readonly delivery: JobDelivery;
  readonly fate: Fate;
  /** Null where the fate is no result, or the result's output is gone. */
  readonly output: Uint8Array | null;
}

export function fateOf(record: JobRecord, job: CarriedJob): Fate {
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
    case 'permanent':
      return { kind: 'hopeless', reason };
    case 'worker-lost':
      // The worker in the record is the one that found the job without its worker.
      return { kind, reason };
    case 'transient':
      return { kind: 'failed', reason, worker };
  }
}

/** A result of another job must not close this one: that job's own result would become a duplicate. */
function isOf(result: JobResult, { runId, outerStep, jobIndex }: CarriedJob): boolean {
  return result.runId === runId && result.outerStep === outerStep && result.jobIndex === jobIndex;
}

export interface AttemptFailure {
  /** The worker that failed, or `LOST_WORKER`. */
  readonly worker: string;
  readonly reason: string;
  readonly rejection?: Rejection;
  readonly cause?: unknown;
}

/** Counts deliveries, each with an id of its own, and remembers failed attempts. */
export class JobDelivery {
  readonly order: JobOrder;
  readonly #idSuffix: string;
  #deliveryCount = 1;
  /** Made anew for each delivery: the sums that a join adds may be others by then. */
  job: CarriedJob;
  #jobId: string;
  /** When it was put on the queue, on the coordinator's monotonic clock. */
  sentMs = 0;
  /** The worker that was seen to have this delivery last; null if none was seen. */
  holder: string | null = null;
  #failures: AttemptFailure[] = [];
  /** The worker that this job alone has made suspect, so that another one confirms its failures. */
  suspect: string | null = null;

  constructor(order: JobOrder, job: CarriedJob, idSuffix: string) {
    this.order = order;
    this.#idSuffix = idSuffix;
    this.job = job;
    this.#jobId = this.#nextId();
  }

  get jobId(): string {
    return this.#jobId;
  }

  get delayMs(): number {
    return redeliveryDelayMs(this.#deliveryCount - 1);
  }

  /** Begins the next delivery under another id. Results of the present one are ignored. */
  deliverAgain(job = this.job): this {
    this.job = job;
    this.#deliveryCount += 1;
    this.#jobId = this.#nextId();
    this.sentMs = 0;
    this.holder = null;
    return this;
  }

  noteFailure(failure: AttemptFailure): void {
    this.#failures.push(failure);
  }

  /** Called when a result counts: if its sums are lost, the job starts anew. */
  forgetFailures(): void {
    this.#failures = [];
    this.suspect = null;
  }

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
    return errorOf('failed', 'a job can never be done', {
      where: this.where,
      found: reason,
      cure: 'correct what the worker found, then continue with --resume',
    });
  }

  get where(): string {
    const { runId, outerStep, jobIndex, work } = this.job;
    return `run ${runId}, outer step ${outerStep}, ${work.kind} job ${jobIndex}`;
  }

  #nextId(): string {
    return `${jobIdOf(this.job, this.#deliveryCount)}-${this.#idSuffix}`;
  }
}

interface GivenUpJob {
  readonly jobIndex: number;
  readonly reason: string;
}

const givenUpJobs = new WeakMap<object, GivenUpJob>();

/** Null when the error is not that of a given-up job. */
export function givenUpJobOf(error: unknown): GivenUpJob | null {
  return error instanceof QianmoError ? (givenUpJobs.get(error) ?? null) : null;
}

const DIVERGES =
  'training diverges: lower method.innerRate or training.optimizer.rate and train again';

/** The error of a job that is given up, whichever dispatcher carried it. */
export function attemptsUsedUp(
  { where, jobIndex }: { readonly where: string; readonly jobIndex: number },
  attemptsMax: number,
  { reason, rejection, cause }: Omit<AttemptFailure, 'worker'>,
): QianmoError {
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
  const error = rejection === 'not_finite' ? new DivergenceError(report) : new QianmoError(report);
  givenUpJobs.set(error, { jobIndex, reason });
  return error;
}
