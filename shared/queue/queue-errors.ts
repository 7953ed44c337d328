/**
 * The failures of a queue that its users treat in a way of their own. An implementation turns the
 * errors of its server into them, so that no user of a queue reads the words of a library.
 */

import { type FailureReport, QianmoError } from '../base/errors.js';
import { JOB_FAILURE_KINDS } from '../names/event-terms.js';

type Report = Omit<FailureReport, 'kind' | 'found'> & { readonly found: string };

/**
 * The queue's server is away: it cannot be reached, it loads its data, or it fails over. The same
 * call may succeed once the server is back.
 */
export class QueueUnavailableError extends QianmoError {
  constructor(report: Report) {
    super({ kind: 'transient', ...report });
  }

  /** The words of the server or of the operating system. */
  get reason(): string {
    return this.report.found ?? this.message;
  }
}

/**
 * - `disk`, `memory`: the server is full. The same call may succeed once there is room.
 * - `permission`: the user of the server may not do this.
 * - `other`: a refusal for another reason.
 */
type Refusal = 'disk' | 'memory' | 'permission' | 'other';

/** The queue's server answers, and refuses. */
export class QueueRefusedError extends QianmoError {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, report: Report & { readonly cure: string }) {
    super({ kind: 'environment', ...report });
    this.refusal = refusal;
  }

  get reason(): string {
    return this.report.found ?? this.message;
  }

  get cure(): string {
    return this.report.cure ?? '';
  }

  /** Whether the same call may succeed once somebody has made room. */
  get mayPass(): boolean {
    return this.refusal === 'disk' || this.refusal === 'memory';
  }
}

/** Whether the same call may succeed later, with nothing changed about the call. */
export function mayPass(error: unknown): error is QueueUnavailableError | QueueRefusedError {
  return (
    error instanceof QueueUnavailableError || (error instanceof QueueRefusedError && error.mayPass)
  );
}

/**
 * The failure of a job as one line of text, because the queue keeps only the text of an error. The
 * worker writes it; the dispatcher and people at the queue board read it.
 */

/**
 * - `blob-missing`: an input is gone; the coordinator can put it again.
 * - `refused`: this worker cannot do the job, but another may. It speaks another version of the
 *   protocol, computes on another device, or cannot open the store that the job names.
 * - `sick`: this worker's machine failed, not the job: its disk is full, its memory or its files are
 *   used up, its compute process does not start.
 * - `worker-lost`: the worker that held the job gave no sign of life. The queue says it, not a worker.
 * - `permanent`: no worker can ever do the job.
 * - `transient`: another attempt may succeed.
 */
export type JobFailureKind = (typeof JOB_FAILURE_KINDS)[number];

export interface JobFailure {
  readonly kind: JobFailureKind;
  readonly reason: string;
}

export const WORKER_LOST: JobFailure = {
  kind: 'worker-lost',
  reason: 'the worker that held the job is lost',
};

const REASON_LENGTH_MAX = 2_000;
const FAILURE_TEXT = new RegExp(`^(${JOB_FAILURE_KINDS.join('|')}): (.*)$`, 's');

export function formatJobFailure({ kind, reason }: JobFailure): string {
  return `${kind}: ${reason.slice(0, REASON_LENGTH_MAX)}`;
}

/** Text without a known kind, as of a library, is transient. */
export function parseJobFailure(text: string): JobFailure {
  const match = FAILURE_TEXT.exec(text);
  if (match === null) return { kind: 'transient', reason: text };
  // The regular expression matches these words only.
  return { kind: match[1] as JobFailureKind, reason: match[2] ?? '' };
}
