/**
 * The times and bounds of the queue. Coordinator and workers must agree on them: with locks of one
 * length and checks of another, the job of a dead worker would stay unnoticed.
 */

/** The lock of a dead worker ends after this time. */
export const LOCK_DURATION_MS = 8_000;
/** A lock survives a lost renewal. */
export const LOCK_RENEWAL_INTERVAL_MS = LOCK_DURATION_MS / 2;

/**
 * The interval between two checks for jobs without a lock. The coordinator learns that a worker is
 * lost after `LOCK_DURATION_MS` and at most two of these.
 */
export const STALLED_INTERVAL_MS = 2_000;

/** A worker counts as gone when it has said nothing for this long. It says so with its beats. */
export const WORKER_SILENCE_MS_MAX = LOCK_DURATION_MS;

/** The lease of a coordinator ends when it has not renewed it for this long. It does so with its beats. */
export const RUN_LEASE_MS = 15_000;
/** How long the queue says how a run has ended: longer than those who gave it orders wait. */
export const RUN_END_KEPT_MS = 60_000;

/** The longest wait for a job in one command. */
export const TAKE_WAIT_MS_MAX = 5_000;
/** A connection to Redis on which a command has no answer for this long is replaced. No command waits longer. */
export const ANSWER_TIMEOUT_MS = 2 * TAKE_WAIT_MS_MAX;

/**
 * The number of finished jobs kept for the queue board. They are not kept by age: BullMQ takes the time of the
 * worker, and would remove the results of a worker whose clock is behind.
 */
export const FINISHED_COUNT_MAX = 5_000;
