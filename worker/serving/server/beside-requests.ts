/** Work for a bundle that is about to be served, in pieces, in the thread that answers requests meanwhile. */

import type { Clock } from '../../../shared/base/clock.js';

/**
 * Does a piece of work, and then leaves the thread to requests for so long that the work has its share of the time.
 *
 * @param beside the clock; null where nothing is served yet: the thread then has a turn for other events alone.
 * @param share of the thread's time, above 0 and at most 1.
 */
export async function besideRequests<Result>(
  beside: Clock | null,
  share: number,
  work: () => Result | Promise<Result>,
): Promise<Result> {
  const startMs = beside?.monotonicMs() ?? 0;
  const result = await work();
  if (beside === null) await new Promise((resolve) => setImmediate(resolve));
  else await beside.sleep((beside.monotonicMs() - startMs) * (1 / share - 1));
  return result;
}
