/**
 * How fast the queue notices a dead worker. Coordinator and workers must agree: a lock of one length
 * and a check of another make a dead worker's job invisible.
 */

/** A dead worker's lock ends after it. */
export const LOCK_DURATION_MS = 8_000;
/** Three renewals may be lost before the lock is. */
export const LOCK_RENEWAL_INTERVAL_MS = LOCK_DURATION_MS / 4;

/**
 * Between two looks for jobs without a lock. A dead worker's job is taken by another worker after
 * `LOCK_DURATION_MS` and at most two of these.
 */
export const STALLED_INTERVAL_MS = 2_000;

/** Stalls of one delivery before the queue calls it failed (the dispatcher then delivers again). */
export const STALLS_PER_DELIVERY_MAX = 1;

/** Events kept in the queue's stream; they only wake, so old ones are worth nothing. */
export const EVENT_COUNT_MAX = 10_000;

/** The longest wait for a job in one `take`. */
export const TAKE_WAIT_MS_MAX = 5_000;

/** Finished jobs are kept this long for the queue board; the coordinator has read them long before. */
export const FINISHED_AGE_MS_MAX = 3_600_000;
export const FINISHED_COUNT_MAX = 5_000;
