/** The order in which the jobs of a call go to the queue. Results do not depend on it. */

import { median } from '../../shared/base/arrays.js';
import type { JobOrder } from './dispatcher.js';

/** Bounds the results that wait for those of earlier jobs, with which they are added in job order. */
const EARLY_JOBS_MAX = 32;

/**
 * Jobs above the median size first, largest first: a large job that begins last keeps one worker busy after all
 * others have ended. The others follow in job order, the order in which gradients are added.
 */
export function inSendingOrder<Order extends Pick<JobOrder, 'rowCount'>>(
  orders: readonly Order[],
): readonly Order[] {
  if (orders.length === 0) return orders;
  const sizeOf = ({ rowCount = 0 }: Order): number => rowCount;
  const usual = median(orders.map(sizeOf));
  const early = orders
    .filter((order) => sizeOf(order) > usual)
    .sort((a, b) => sizeOf(b) - sizeOf(a))
    .slice(0, EARLY_JOBS_MAX);
  const isEarly = new Set(early);
  return [...early, ...orders.filter((order) => !isEarly.has(order))];
}
