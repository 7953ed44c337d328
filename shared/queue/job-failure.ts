/**
 * The failure of a job as one line of text, because the queue keeps only the text of an error. The
 * worker writes it; the dispatcher and people at the queue board read it.
 */

import { JOB_FAILURE_KINDS } from '../names/event-terms.js';

/**
 * - `blob-missing`: an input is gone; the coordinator can put it again.
 * - `refused`: this worker cannot do the job, but another may. It speaks another version of the
 *   protocol, computes on another device, or cannot open the store that the job names.
 * - `declined`: the job asks this worker to leave it to others.
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
