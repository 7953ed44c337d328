/**
 * The rule that closes an outer step. A pure function of the jobs that are admitted, the jobs that
 * are open, and the time. Dispatchers ask it on every turn and act on its answer.
 */

interface StepProgress {
  /** Jobs with an admitted result. */
  readonly admittedCount: number;
  /** Jobs without one, whether or not they have been sent. */
  readonly openCount: number;
  readonly nowMs: number;
  /** On the same scale as `nowMs`. */
  readonly deadlineMs: number;
}

/**
 * - `wait`: more results are needed. The answer can change with the next result and at `untilMs`.
 * - `close`: the admitted results are the results of the outer step.
 * - `timed-out`: the deadline passed first, and the outer step fails.
 */
export type Closing =
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'close' }
  | { readonly kind: 'timed-out' };

/** An outer step closes when every job is admitted. */
export function closingOf({ openCount, nowMs, deadlineMs }: StepProgress): Closing {
  if (openCount === 0) return { kind: 'close' };
  if (nowMs >= deadlineMs) return { kind: 'timed-out' };
  return { kind: 'wait', untilMs: deadlineMs };
}
