/** Work for a bundle that is about to be served, in pieces, in the thread that answers requests meanwhile. */

import type { Clock } from '../../../shared/base/clock.js';

/** The part of its time that the thread spends on such work. */
const WORKING_SHARE = 1 / 8;

/**
 * Does a piece of work, and leaves the thread to requests for seven times as long.
 *
 * @param beside the clock; null where nothing is served yet: the thread then has a turn for other events alone.
 */
export async function besideRequests(beside: Clock | null, work: () => void): Promise<void> {
  const startMs = beside?.monotonicMs() ?? 0;
  work();
  if (beside === null) return new Promise((resolve) => setImmediate(resolve));
  const tookMs = beside.monotonicMs() - startMs;
  await beside.sleep(tookMs * (1 / WORKING_SHARE - 1));
}
