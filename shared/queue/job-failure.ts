/**
 * The failure of a job as one line of text, because the queue keeps only the text of an error. The
 * worker writes it; the dispatcher and people at the queue board read it.
 */

/**
 * - `blob-missing`: an input is gone; the coordinator can put it again.
 * - `refused`: this worker cannot do the job, but another may. It speaks another version of the
 *   protocol, computes on another device, or cannot open the store that the job names.
 * - `permanent`: no worker can ever do the job.
 * - `transient`: another attempt may succeed.
 */
export type JobFailureKind = 'blob-missing' | 'refused' | 'permanent' | 'transient';

export interface JobFailure {
  readonly kind: JobFailureKind;
  readonly reason: string;
}

const REASON_LENGTH_MAX = 2_000;

export function formatJobFailure({ kind, reason }: JobFailure): string {
  return `${kind}: ${reason.slice(0, REASON_LENGTH_MAX)}`;
}

/** Text without a known kind, as of a stalled job or a library, is transient. */
export function parseJobFailure(text: string): JobFailure {
  const match = /^(blob-missing|refused|permanent|transient): (.*)$/s.exec(text);
  if (match === null) return { kind: 'transient', reason: text };
  // The regular expression matches these words only.
  return { kind: match[1] as JobFailureKind, reason: match[2] ?? '' };
}
