/**
 * Why a job failed, as one line that survives the queue: BullMQ keeps nothing of an error but its
 * text. Written by the worker, read by the dispatcher and by people on the queue board.
 */

/**
 * - `blob-missing`: an input is gone; whoever holds the bytes may put them again.
 * - `refused`: this worker cannot do it, another may: it speaks another version of the protocol,
 *   computes on another device, or cannot open the store that the job names.
 * - `permanent`: no worker will ever be able to.
 * - `transient`: another try may succeed.
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

/** Text without a known kind (a stalled job, a library's own words) is transient. */
export function parseJobFailure(text: string): JobFailure {
  const match = /^(blob-missing|refused|permanent|transient): (.*)$/s.exec(text);
  if (match === null) return { kind: 'transient', reason: text };
  // The expression admits these words only.
  return { kind: match[1] as JobFailureKind, reason: match[2] ?? '' };
}
