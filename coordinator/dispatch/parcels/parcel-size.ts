/** How many jobs go to a worker in one exchange. No result depends on it (decision 0048). */

/** Bounds the jobs that the loss of one worker can cost. */
const PARCEL_JOB_COUNT_MAX = 32;
/** Towards the end of a step, parcels shrink so that workers end together, but to no less than this share. */
const LEAST_SHARE = 0.1;
/**
 * Among several, a worker has at least so many exchanges in a step: it computes one while another one travels. A lone one
 * has the first job, and then the rest: nobody waits for it.
 */
const EXCHANGES_PER_WORKER_MIN = 2;
/** The first jobs of a step travel alone, so that workers begin while the inputs of others are encoded. */
const FIRST_ALONE_COUNT = 4;

/** The jobs that fit into an exchange by time: none where nothing is known of their duration. */
export function jobsInExchange({ exchangeMs, usualMs }: ExchangeTimes): number {
  return Math.min(PARCEL_JOB_COUNT_MAX, countWithin(exchangeMs, usualMs));
}

interface ExchangeTimes {
  /** How long the jobs of an exchange should compute; 0 if every job travels alone. */
  readonly exchangeMs: number;
  /** The usual computing time of such jobs; infinite where too few are known. */
  readonly usualMs: number;
}

interface StepProgress {
  readonly orderCount: number;
  /** The orders whose jobs have been sent before. */
  readonly sentCount: number;
  readonly workerCount: number;
}

/** The number of jobs of the next parcel. */
export function parcelSize(
  times: ExchangeTimes,
  { orderCount, sentCount, workerCount }: StepProgress,
): number {
  const { exchangeMs, usualMs } = times;
  if (workerCount === 1) return sentCount === 0 ? 1 : Math.max(1, jobsInExchange(times));
  const exchangeCount = EXCHANGES_PER_WORKER_MIN * Math.max(1, workerCount);
  const fairShare = Math.floor((orderCount - sentCount) / exchangeCount);
  const size = Math.min(
    jobsInExchange(times),
    Math.floor(orderCount / exchangeCount),
    Math.max(fairShare, countWithin(LEAST_SHARE * exchangeMs, usualMs)),
    1 + Math.floor(sentCount / FIRST_ALONE_COUNT),
  );
  return Math.max(1, size);
}

function countWithin(durationMs: number, jobMs: number): number {
  return durationMs === 0 ? 0 : Math.floor(durationMs / Math.max(jobMs, Number.MIN_VALUE));
}
